package disk

import (
	"errors"
	"fmt"
	iofs "io/fs"
)

// tooLargeError says that a file is larger than any that was ever written.
type tooLargeError struct {
	name      string
	size, max int64
}

func (e *tooLargeError) Error() string {
	return fmt.Sprintf("read %s: %d bytes, at most %d are expected", e.name, e.size, e.max)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, iofs.ErrNotExist) {
		return nil
	}
	return err
}
