package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/millrace-io/millrace/broker/config"
)

const (
	// caDays is how long an authority made here is good for, certDays a node's
	// certificate unless asked otherwise.
	caDays, certDays = 3650, 825
	// clockSkew is how far a node's clock may be behind.
	clockSkew = time.Hour
)

// certItem is a certificate that was written.
type certItem struct {
	Node  string    `json:"node"`
	Cert  string    `json:"cert"`
	Key   string    `json:"key"`
	Hosts []string  `json:"hosts,omitempty"`
	Until time.Time `json:"until"`
}

func (a *app) clusterCerts() *cobra.Command {
	var seeds, dir string
	var joining []string
	var days int
	c := &cobra.Command{
		Use: "certs", Short: "Make the certificates that nodes talk to each other by",
		Long: `Make an authority and a certificate for each node of --seeds, all in --dir. Give each node
its own certificate and key and the authority's certificate, by rpc_tls_cert, rpc_tls_key and
rpc_tls_ca; keep the authority's key away from them.

Nodes that join the cluster later are named by --join; it may be given alone.

An authority that is there is used again: nodes take a renewed certificate while they run, at their
next connection.`,
		Example: `  millrace cluster certs --seeds 0@a:33145,1@b:33145,2@c:33145 --dir certs`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if seeds == "" && len(joining) == 0 {
				return errors.New("which nodes? Give --seeds as to `millrace start`, or --join")
			}
			nodes, err := config.ParseSeeds(seeds)
			if err != nil {
				return err
			}
			for _, text := range joining {
				n, err := config.ParseSeed(text)
				if err != nil {
					return err
				}
				nodes = append(nodes, n)
			}
			made, err := makeCerts(dir, nodes, days, time.Now())
			if err != nil {
				return err
			}
			return a.print(made, func(w *sheet) {
				var rows [][]any
				for _, m := range made {
					rows = append(rows, []any{m.Node, m.Cert, m.Key, m.Until.Format(time.DateOnly)})
				}
				w.table([]string{"NODE", "CERTIFICATE", "KEY", "GOOD-UNTIL"}, rows)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&seeds, "seeds", "", "the nodes: ID@HOST:PORT,...")
	f.StringSliceVar(&joining, "join", nil, "nodes that join later: ID@HOST:PORT,...")
	f.StringVar(&dir, "dir", "certs", "directory to write to, made if missing")
	f.IntVar(&days, "days", certDays, "how long the nodes' certificates are good for")
	return c
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// makeCerts writes node-ID.pem and node-ID.key for each node, and ca.pem and ca.key
// unless they are there.
func makeCerts(dir string, nodes []config.Seed, days int, now time.Time) ([]certItem, error) {
	if days < 1 {
		return nil, fmt.Errorf("%d days: want 1 or more", days)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of certificates: %w", err)
	}
	ca, err := openAuthority(dir, now)
	if err != nil {
		return nil, err
	}
	made := []certItem{{Node: "ca", Cert: filepath.Join(dir, "ca.pem"), Key: filepath.Join(dir, "ca.key"), Until: ca.cert.NotAfter}}
	for _, n := range nodes {
		host, _, err := net.SplitHostPort(n.Address)
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", n.ID, err)
		}
		name := fmt.Sprintf("node-%d", n.ID)
		t := certificate(name, now, days)
		t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = []net.IP{ip}
		} else {
			t.DNSNames = []string{host}
		}
		if t.NotAfter.After(ca.cert.NotAfter) {
			t.NotAfter = ca.cert.NotAfter
		}
		if err := ca.issue(dir, name, t); err != nil {
			return nil, err
		}
		made = append(made, certItem{
			Node: fmt.Sprint(n.ID), Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key"), Hosts: []string{host}, Until: t.NotAfter,
		})
	}
	return made, nil
}

// certificate is what all certificates have.
func certificate(name string, now time.Time, days int) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // never fails: see crypto/rand
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"Millrace"}, CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.AddDate(0, 0, days), BasicConstraintsValid: true,
	}
}

// openAuthority reads the authority in dir, or makes one where there is none.
func openAuthority(dir string, now time.Time) (*authority, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	certPEM, certErr := os.ReadFile(certFile)
	keyPEM, keyErr := os.ReadFile(keyFile)
	switch {
	case errors.Is(certErr, os.ErrNotExist) && errors.Is(keyErr, os.ErrNotExist):
		t := certificate("Millrace nodes", now, caDays)
		t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign
		ca := &authority{cert: t}
		if err := ca.issue(dir, "ca", t); err != nil {
			return nil, err
		}
		return openAuthority(dir, now)
	case certErr != nil || keyErr != nil:
		return nil, fmt.Errorf("an authority needs both %s and %s: %w", certFile, keyFile, errors.Join(certErr, keyErr))
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, fmt.Errorf("%s or %s is not PEM", certFile, keyFile)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", certFile, err)
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", keyFile, err)
	}
	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok || !cert.IsCA || !signer.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s are not an authority made by this command", certFile, keyFile)
	}
	if now.After(cert.NotAfter) {
		return nil, fmt.Errorf("the authority %s was good until %s: remove it and its key, and give all nodes a new one", certFile, cert.NotAfter.Format(time.DateOnly))
	}
	return &authority{cert, signer}, nil
}

// issue writes a new key and a certificate of it; an authority without a key is being
// made, and signs itself.
func (ca *authority) issue(dir, name string, t *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key for %s: %w", name, err)
	}
	signer := ca.key
	if signer == nil {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, &key.PublicKey, signer)
	if err != nil {
		return fmt.Errorf("sign the certificate of %s: %w", name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode the key of %s: %w", name, err)
	}
	err = replaceFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600)
	if err == nil {
		err = replaceFile(filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the certificate of %s: %w", name, err)
	}
	return nil
}
