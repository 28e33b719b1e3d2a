package cli

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/millrace-io/millrace/broker/config"
)

var certNodes = []config.Seed{{ID: 0, Address: "127.0.0.1:1"}, {ID: 1, Address: "mill-1:1"}, {ID: 2, Address: "[::1]:1"}}

// shake has one node's certificate greet another's as host; it gives the first error.
func shake(t *testing.T, dir string, client, server, host string) error {
	t.Helper()
	configure := func(name string) *tls.Config {
		own, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		trust := x509.NewCertPool()
		trust.AppendCertsFromPEM(ca)
		return &tls.Config{Certificates: []tls.Certificate{own}, RootCAs: trust, ClientCAs: trust, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: host}
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(b, configure(server)).HandshakeContext(t.Context()) }()
	if err := tls.Client(a, configure(client)).HandshakeContext(t.Context()); err != nil {
		return err
	}
	return <-served
}

// TestCerts: nodes with certificates of one authority talk to each other under the
// hosts of their seeds, and under no others; renewed ones go with the old.
func TestCerts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	made, err := makeCerts(dir, certNodes, 30, time.Now())
	if err != nil || len(made) != 4 {
		t.Fatalf("%+v, %v", made, err)
	}
	for server, host := range map[string]string{"node-0": "127.0.0.1", "node-1": "mill-1", "node-2": "::1"} {
		if err := shake(t, dir, "node-0", server, host); err != nil {
			t.Errorf("%s at %s: %v", server, host, err)
		}
	}
	if err := shake(t, dir, "node-0", "node-1", "mill-2"); err == nil {
		t.Error("a node went for another host's")
	}
	for name, mode := range map[string]os.FileMode{"ca.key": 0o600, "node-1.key": 0o600, "node-1.pem": 0o644} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %v", name, info.Mode(), err, mode)
		}
	}
	old, _ := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if _, err := makeCerts(dir, certNodes[:1], 30, time.Now()); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(filepath.Join(dir, "ca.pem")); string(now) != string(old) {
		t.Error("the authority was replaced")
	}
	if err := shake(t, dir, "node-0", "node-2", "::1"); err != nil {
		t.Errorf("renewed: %v", err)
	}
}

// TestCertsRefuse: what would leave nodes without certificates is said.
func TestCertsRefuse(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"key lost": {func(dir string) error { return os.Remove(filepath.Join(dir, "ca.key")) }, "needs both"},
		"not PEM":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o600) }, "not PEM"},
		"another's": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "node-0.pem"), filepath.Join(dir, "ca.pem"))
		}, "not an authority"},
		"another's key": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "node-0.key"), filepath.Join(dir, "ca.key"))
		}, "not an authority"},
	} {
		dir := t.TempDir()
		if _, err := makeCerts(dir, certNodes, 30, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := makeCerts(dir, certNodes, 30, time.Now()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	if _, err := makeCerts(dir, certNodes, 30, time.Now().AddDate(-11, 0, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := makeCerts(dir, certNodes, 30, time.Now()); err == nil || !strings.Contains(err.Error(), "was good until") {
		t.Errorf("an authority that is over: %v", err)
	}
}
