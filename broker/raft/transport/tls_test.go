package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "github.com/lni/dragonboat/v4/raftpb"
)

// authority signs certificates for nodes on 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func sign(t *testing.T, template *x509.Certificate, by *authority) (certificate, key []byte, made *authority) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	made = &authority{cert: template, key: k}
	if by == nil {
		by = made
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &k.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	made.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return made.pem, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), made
}

func newAuthority(t *testing.T, name string) *authority {
	_, _, a := sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

// identity is a node's files.
type identity struct{ dir string }

func newIdentity(t *testing.T) identity { return identity{t.TempDir()} }

func (i identity) put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(i.dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue gives the node a certificate of by for host, number serial, and trust in
// whom it shall trust.
func (i identity) issue(t *testing.T, by *authority, host string, serial int64, trust ...*authority) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "node"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	certificate, key, _ := sign(t, template, by)
	i.put(t, "cert.pem", certificate)
	i.put(t, "key.pem", key)
	var all []byte
	for _, a := range trust {
		all = append(all, a.pem...)
	}
	i.put(t, "ca.pem", all)
}

func (i identity) open(t *testing.T, log *slog.Logger) *Files {
	t.Helper()
	f, err := OpenFiles(filepath.Join(i.dir, "cert.pem"), filepath.Join(i.dir, "key.pem"), filepath.Join(i.dir, "ca.pem"), log)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// deliver sends a batch from one node to another over loopback and TLS, or says
// why it does not arrive.
func deliver(t *testing.T, from, to TLS) error {
	t.Helper()
	got := make(chan string, 1)
	address := freeAddress(t)
	a := start(t, made(Options{TLS: from}, "a", freeAddress(t), nil, nil))
	start(t, made(Options{TLS: to}, "b", address, func(b pb.MessageBatch) { got <- command(b) }, nil))
	c, err := a.GetConnection(t.Context(), Target("b", address))
	if err != nil {
		return err
	}
	defer c.Close()
	long := strings.Repeat("x", 3*writeBufferBytes)
	if err := c.SendMessageBatch(text(long)); err != nil {
		return err
	}
	select {
	case s := <-got:
		if s != long {
			t.Errorf("%d bytes came, want %d", len(s), len(long))
		}
		return nil
	case <-time.After(patience):
		return errors.New("nothing came")
	}
}

// TestTLS: who shows no certificate of a common authority, or another host's, is
// refused by either end.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	node := func(by *authority, host string, trust ...*authority) TLS {
		i := newIdentity(t)
		i.issue(t, by, host, 2, trust...)
		return i.open(t, quiet())
	}
	good := node(ours, "127.0.0.1", ours)
	for name, c := range map[string]struct {
		from, to TLS
		good     bool
	}{
		"both of one authority":   {good, good, true},
		"each trusts the other's": {node(theirs, "127.0.0.1", ours), node(ours, "127.0.0.1", theirs), true},
		"client of another":       {node(theirs, "127.0.0.1", ours), good, false},
		"server of another":       {good, node(theirs, "127.0.0.1", ours), false},
		"another host's":          {good, node(ours, "node.example", ours), false},
		"client in plain text":    {nil, good, false},
		"server in plain text":    {good, nil, false},
		"no certificate":          {bare{ours}, good, false},
		"an old protocol":         {old{good}, good, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := deliver(t, c.from, c.to); (err == nil) != c.good {
				t.Errorf("delivered: %v", err)
			}
		})
	}
}

// bare trusts an authority and shows nothing.
type bare struct{ *authority }

func (bare) Server() *tls.Config { return nil }
func (b bare) Client(host string) *tls.Config {
	trust := x509.NewCertPool()
	trust.AppendCertsFromPEM(b.pem)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trust, ServerName: host}
}

// old speaks TLS 1.1.
type old struct{ TLS }

func (o old) Client(host string) *tls.Config {
	c := o.TLS.Client(host)
	c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	return c
}

// serial is the number of the certificate that a node shows now.
func serial(t *testing.T, f *Files) int64 {
	t.Helper()
	c, err := x509.ParseCertificate(f.Server().Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.Int64()
}

// TestReload changes a running node's files: good ones count from the next
// handshake on, bad ones are told of once and never count.
func TestReload(t *testing.T) {
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	var log lines
	peer, mine := newIdentity(t), newIdentity(t)
	peer.issue(t, second, "127.0.0.1", 5, first, second)
	mine.issue(t, first, "127.0.0.1", 10, first)
	them, us := peer.open(t, quiet()), mine.open(t, slog.New(slog.NewTextHandler(&log, nil)))
	if err := deliver(t, them, us); err == nil {
		t.Error("the second authority counts before it is trusted")
	}
	mine.issue(t, first, "127.0.0.1", 11, first, second)
	if err := deliver(t, them, us); err != nil {
		t.Errorf("the second authority does not count once it is trusted: %v", err)
	}
	if got := serial(t, us); got != 11 {
		t.Errorf("certificate %d is shown, want 11", got)
	}
	bad := func(name string, b []byte, want string) {
		t.Helper()
		mine.put(t, name, b)
		log.Reset()
		for range 2 {
			if got := serial(t, us); got != 11 {
				t.Errorf("with a bad %s certificate %d is shown, want 11", name, got)
			}
		}
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("with a bad %s the log says %q, want %q once", name, log.String(), want)
		}
	}
	good, err := os.ReadFile(filepath.Join(mine.dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	bad("key.pem", []byte("half a f"), "key.pem")
	mine.put(t, "key.pem", good)
	bad("ca.pem", nil, "no authority in")
	if err := deliver(t, them, us); err != nil {
		t.Errorf("with bad files: %v", err)
	}
	mine.issue(t, second, "127.0.0.1", 12, second)
	if got := serial(t, us); got != 12 {
		t.Errorf("certificate %d is shown, want 12", got)
	}
	if err := os.Remove(filepath.Join(mine.dir, "cert.pem")); err != nil {
		t.Fatal(err)
	}
	if got := serial(t, us); got != 12 {
		t.Errorf("without a file certificate %d is shown, want 12", got)
	}
	if _, err := OpenFiles("none", "none", "none", quiet()); !errors.Is(err, ErrCertificates) {
		t.Errorf("opened what is not there: %v", err)
	}
}

// TestCallsTLS makes calls over loopback, in plain text and over TLS.
func TestCallsTLS(t *testing.T) {
	ours := newAuthority(t, "ours")
	i := newIdentity(t)
	i.issue(t, ours, "127.0.0.1", 2, ours)
	for name, secured := range map[string]TLS{"plain": nil, "TLS": i.open(t, quiet())} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			desks := newDesks()
			a := start(t, made(Options{TLS: secured}, "a", freeAddress(t), nil, nil))
			var log lines
			b := start(t, made(Options{TLS: secured, Answer: desks.answer, Log: slog.New(slog.NewTextHandler(&log, nil))}, "b", address, nil, nil))
			long := strings.Repeat("x", CallBytesMax-len("a "))
			for _, target := range []string{Target("b", address), address} {
				for _, word := range []string{"", "short", long} {
					if got, err := a.Call(t.Context(), target, methodEcho, []byte(word)); err != nil || string(got) != "a "+word {
						t.Errorf("%.20q, %v", got, err)
					}
				}
			}
			done := make(chan error)
			go func() {
				_, err := a.Call(t.Context(), Target("b", address), methodStall, nil)
				done <- err
			}()
			<-desks.begun
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, ErrBroken) {
				t.Errorf("%v, want ErrBroken", err)
			}
			if log.Len() > 0 {
				t.Errorf("connections that were not kept are told of: %s", log.String())
			}
		})
	}
}
