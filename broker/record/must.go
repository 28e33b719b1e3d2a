package record

import "fmt"

// must stops the program when what cannot happen has happened.
func must(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
