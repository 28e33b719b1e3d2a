package cluster

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace-io/millrace/test/node"
	"github.com/millrace-io/millrace/test/port"
)

// TestForm: any node may be first; one alone forms nothing, two do, and the third
// finds what they have made. A cluster is one, whoever registered first.
func TestForm(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{})
	first := make(chan error, 1)
	c.Nodes[2].Brokers, c.Nodes[2].Admin = port.Free(t, 1)[0], "127.0.0.1:0"
	go func() { first <- c.Nodes[2].TryRestart() }()
	await(t, "node 2 to wait for others", func() error {
		_, err := os.Stat(c.Nodes[2].LogPath)
		return err
	})
	await(t, "node 2 to turn clients away", func() error {
		client, err := net.Dial("tcp", c.Nodes[2].Brokers)
		if err != nil {
			return err
		}
		defer client.Close()
		if err := client.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("it lets them wait: %w", err)
		}
		return nil
	})
	c.Start(1)
	if err := <-first; err != nil {
		t.Fatalf("node 2: %v\n%s", err, c.Nodes[2].Log(4000))
	}
	createTopic(t, c, 1, 3, 3)
	w := startWriter(t, c, 3)
	w.more(t, 20)
	c.Start(0)
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
	for _, n := range c.Nodes {
		await(t, "every node to know the others", func() error {
			out, err := n.CLI("cluster", "health")
			if err == nil && !strings.Contains(out, "true") {
				return errorOf(out)
			}
			return err
		})
	}
	operate(t, c)
}

type errorOf string

func (e errorOf) Error() string { return string(e) }

// TestStrangersDoNotMix: a node whose seeds are others finds nobody, even where they
// live at the addresses that it knows.
func TestStrangersDoNotMix(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{})
	c.Start(0, 1)
	stranger := node.NewCluster(t, 3, node.Options{}).Nodes[2]
	// It takes node 0's address for its own cluster's node 0.
	ours := strings.Split(c.Nodes[0].O.Seeds, ",")
	theirs := strings.Split(stranger.O.Seeds, ",")
	stranger.O.Seeds = strings.Join([]string{ours[0], theirs[1], theirs[2]}, ",")
	started := make(chan error, 1)
	go func() { started <- stranger.TryRestart() }()
	createTopic(t, c, 0, 3, 3)
	w := startWriter(t, c, 3)
	w.more(t, 20)
	select {
	case err := <-started:
		if err == nil {
			t.Error("it became part of a cluster that it was not made for")
		}
	case <-time.After(time.Second): // it waits for its own
	}
	w.stop(t)
	w.check(t, c)
}

// TestMutualTLS: a cluster whose nodes talk by certificates, one of which has none of
// this authority and is heard by nobody until it is given one.
func TestMutualTLS(t *testing.T) {
	c := node.NewCluster(t, 3, node.Options{})
	ours, foreign := t.TempDir(), t.TempDir()
	for _, dir := range []string{ours, foreign} {
		if _, err := c.Nodes[0].CLI("cluster", "certs", "--seeds", c.Nodes[0].O.Seeds, "--dir", dir); err != nil {
			t.Fatal(err)
		}
	}
	secure := func(n *node.Node, dir string) {
		name := fmt.Sprintf("%s/node-%d", dir, n.O.ID)
		n.O.Args = append(n.O.Args, "--set", "rpc_tls_cert="+name+".pem", "--set", "rpc_tls_key="+name+".key", "--set", "rpc_tls_ca="+dir+"/ca.pem")
	}
	secure(c.Nodes[0], ours)
	secure(c.Nodes[1], ours)
	secure(c.Nodes[2], foreign)
	third := make(chan error, 1)
	go func() { third <- c.Nodes[2].TryRestart() }()
	c.Start(0, 1)
	createTopic(t, c, 0, 3, 3)
	w := startWriter(t, c, 3)
	w.more(t, 20)
	select {
	case err := <-third:
		t.Fatalf("it was heard with a stranger's certificate: %v", err)
	default:
	}
	c.Nodes[2].Kill()
	<-third
	secure(c.Nodes[2], ours)
	c.Start(2)
	c.Nodes[0].Kill() // node 2 is needed now
	w.more(t, 20)
	w.stop(t)
	w.check(t, c)
}
