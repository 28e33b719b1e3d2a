package transport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
)

// TLS gives the configuration of the next handshake. It is asked for each: what
// it answers may change while the node runs.
type TLS interface {
	// Server is for a connection that a peer opens here.
	Server() *tls.Config
	// Client is for one that this node opens to host.
	Client(host string) *tls.Config
}

// ErrCertificates says that the files of a node's certificate do not make one.
// Connections go on with the last that did.
var ErrCertificates = errors.New("bad certificate files")

// Files is a TLS of certificates on disk, read again when they change. Both ends
// show theirs and hold the other's against the same authorities; the end that
// dials also wants the name of the host it dialed in it. Open connections stay.
type Files struct {
	certificate, key, authorities string
	log                           *slog.Logger

	// mu guards what follows. tried is what the files held when last looked at:
	// bad ones are told of once.
	mu    sync.Mutex
	tried [3][]byte
	own   tls.Certificate
	trust *x509.CertPool
}

// OpenFiles reads a certificate, its key and the authorities' certificates, all
// in PEM. They must be good now; later a bad one is logged and the old one kept.
func OpenFiles(certificate, key, authorities string, log *slog.Logger) (*Files, error) {
	f := &Files{certificate: certificate, key: key, authorities: authorities, log: log}
	if err := f.refresh(); err != nil {
		return nil, err
	}
	return f, nil
}

// Server implements TLS.
func (f *Files) Server() *tls.Config {
	own, trust := f.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trust,
		// A resumed session would skip the check against today's authorities.
		SessionTicketsDisabled: true,
	}
}

// Client implements TLS.
func (f *Files) Client(host string) *tls.Config {
	own, trust := f.current()
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own},
		RootCAs: trust, ServerName: host,
	}
}

// current looks at the files and gives what is good.
func (f *Files) current() (tls.Certificate, *x509.CertPool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.refresh(); err != nil {
		f.log.Error("node certificates kept as they were", "error", err)
	}
	return f.own, f.trust
}

// refresh takes over what the files hold if that is new. It compares bytes, not
// times: handshakes are rare, and a file may change twice in a clock's tick.
func (f *Files) refresh() error {
	var now [3][]byte
	for i, name := range []string{f.certificate, f.key, f.authorities} {
		b, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCertificates, err)
		}
		now[i] = b
	}
	if bytes.Equal(now[0], f.tried[0]) && bytes.Equal(now[1], f.tried[1]) && bytes.Equal(now[2], f.tried[2]) {
		return nil
	}
	f.tried = now
	own, err := tls.X509KeyPair(now[0], now[1])
	if err != nil {
		return fmt.Errorf("%w: %s, %s: %w", ErrCertificates, f.certificate, f.key, err)
	}
	trust := x509.NewCertPool()
	if !trust.AppendCertsFromPEM(now[2]) {
		return fmt.Errorf("%w: no authority in %s", ErrCertificates, f.authorities)
	}
	f.own, f.trust = own, trust
	return nil
}
