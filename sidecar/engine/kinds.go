package engine

import (
	"github.com/millrace-io/millrace/plugins/async"
	"github.com/millrace-io/millrace/plugins/control"
	plugsync "github.com/millrace-io/millrace/plugins/sync"
)

// Control implements control.Host.
func (e *Engine) Control(token string) (control.Control, error) { return e.Session(token) }

// Sync implements sync.Host.
func (e *Engine) Sync(token string) (plugsync.Transformer, error) { return e.Session(token) }

// Async implements async.Host.
func (e *Engine) Async(token string) (async.Opener, error) { return e.Session(token) }
