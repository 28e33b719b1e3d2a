//go:build !wasip1

package millrace

import (
	"fmt"
	"os"
)

// logLine writes to stderr when a transform runs in a test.
func logLine(level Level, text string) { fmt.Fprintln(os.Stderr, level, text) }
