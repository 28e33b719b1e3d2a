package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/plugins/control"
)

// session names this start of this node to its sidecar.
func session(n config.Node) control.Session {
	var boot [8]byte
	_, _ = rand.Read(boot[:]) // never fails: see crypto/rand
	return control.Session{Node: n.ID, Boot: hex.EncodeToString(boot[:])}
}

// connectSidecar says how this node gets a sidecar; nil: it runs without.
func (s *Server) connectSidecar() func(context.Context) (script.Sidecar, error) {
	if s.n.Sidecar == config.SidecarOff {
		return nil
	}
	return func(ctx context.Context) (script.Sidecar, error) {
		return script.Sidecar{}, errors.New("no sidecar yet")
	}
}
