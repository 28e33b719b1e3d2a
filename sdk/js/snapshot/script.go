package snapshot

import (
	"errors"
	"fmt"
)

// ScriptSection is the name of the custom section that carries a script.
const ScriptSection = "millrace.js"

// ErrScripts is the cause of an error about a module with more than one script.
var ErrScripts = errors.New("module carries more than one script")

// WithScript returns the engine with code as its script, in a custom section at the end. A script that is there already is replaced.
func WithScript(engine, code []byte) ([]byte, error) {
	list, err := split(engine)
	if err != nil {
		return nil, err
	}
	kept := make([]section, 0, len(list)+1)
	for _, s := range list {
		if !s.isScript() {
			kept = append(kept, s)
		}
	}
	body := append(appendName(nil, ScriptSection), code...)
	return join(append(kept, section{sectionCustom, body})), nil
}

// Script returns the script that a module carries, and whether there is one. The bytes alias the module.
func Script(module []byte) (code []byte, found bool, err error) {
	list, err := split(module)
	if err != nil {
		return nil, false, err
	}
	for _, s := range list {
		if !s.isScript() {
			continue
		}
		if found {
			return nil, false, fmt.Errorf("%w", ErrScripts)
		}
		r := reader{rest: s.body}
		r.name()
		code, found = r.rest, true
	}
	return code, found, nil
}

func (s section) isScript() bool {
	if s.id != sectionCustom {
		return false
	}
	r := reader{rest: s.body}
	return r.name() == ScriptSection && r.err == nil
}
