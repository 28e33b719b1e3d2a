// Package plugins joins a broker to its sidecar: it launches or attaches one
// and gives the three kinds control, sync and async that it serves.
//
// Only this package knows hashicorp/go-plugin and the sockets; the kinds hide
// the link, so that shared memory can replace it. Owner: a Sidecar belongs to
// whoever made it. Invariants: a Sidecar never reconnects, a new one is made;
// both ends check by SO_PEERCRED whom they talk to.
package plugins

import (
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	"github.com/millrace-io/millrace/plugins/sync"
)

// Sidecar is a link to a running sidecar. Its kinds fail with control.ErrDown
// once it has died.
type Sidecar struct {
	Control control.Control
	Sync    sync.Transformer
	Async   async.Opener

	died  chan struct{}
	close func() error
}

// Died is closed when the sidecar is gone, whoever ended it.
func (s *Sidecar) Died() <-chan struct{} { return s.died }

// Close drops the link. A sidecar that was launched here ends; one that was
// attached lives on.
func (s *Sidecar) Close() error { return s.close() }
