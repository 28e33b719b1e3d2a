package host

import (
	"errors"
	"fmt"

	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/sidecar/abi"
)

// ErrModule is wrapped by every refusal of a module; its author must change it.
var ErrModule = errors.New("module refused")

// ErrDead means that the guest was used after it died.
var ErrDead = errors.New("guest is dead")

func refuse(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrModule, fmt.Sprintf(format, args...))
}

// Fault is a batch that a guest failed.
type Fault struct {
	Kind   control.FailureKind
	Source int // index of the record, abi.WholeBatch if it is not known
	Text   string
	Dead   bool // the guest must be closed
}

// Error gives the text with its kind.
func (f *Fault) Error() string {
	if f.Source == abi.WholeBatch {
		return fmt.Sprintf("%s: %s", f.Kind, f.Text)
	}
	return fmt.Sprintf("%s on record %d of the batch: %s", f.Kind, f.Source, f.Text)
}

// garbage is the fault of a guest whose answer makes no sense.
func garbage(err error) *Fault {
	return &Fault{Kind: control.FailureGarbage, Source: abi.WholeBatch, Text: err.Error(), Dead: true}
}

// Garbage makes the fault of a guest whose output frame was refused.
func Garbage(err error) *Fault { return garbage(err) }
