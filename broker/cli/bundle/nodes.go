package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
)

// target is a node that is asked by itself.
type target struct {
	api.NodeInfo
	client *client.Client
}

// nodes asks each node what it alone knows, and for its metrics twice.
func (b *bundle) nodes(ctx context.Context) {
	targets := b.targets(ctx)
	for _, t := range targets {
		dir := fmt.Sprintf("nodes/%d/", t.ID)
		b.ask(ctx, dir+"node.json", answer(t.client.Node))
		b.ask(ctx, dir+"ready.json", answer(t.client.Ready))
	}
	b.Say("reading metrics and profiles of %d nodes, %v apart", len(targets), b.Interval)
	b.pages(ctx, targets, page{"metrics-1.txt", "/metrics", nil, 0})
	rest := time.After(b.Interval)
	b.pages(ctx, targets, page{"goroutines.txt", "/debug/pprof/goroutine", url.Values{"debug": {"2"}}, 0})
	b.pages(ctx, targets, page{"heap.pprof", "/debug/pprof/heap", nil, 0})
	if seconds := int(b.CPU.Seconds()); seconds > 0 {
		b.pages(ctx, targets, page{"cpu.pprof", "/debug/pprof/profile", url.Values{"seconds": {strconv.Itoa(seconds)}}, b.CPU})
	}
	select {
	case <-rest:
	case <-ctx.Done():
		return
	}
	b.pages(ctx, targets, page{"metrics-2.txt", "/metrics", nil, 0})
}

// targets are the nodes that the cluster knows; where it cannot be asked, who is named.
func (b *bundle) targets(ctx context.Context) (all []target) {
	ctx, cancel := context.WithTimeout(ctx, askTimeMax)
	defer cancel()
	c, err := b.Admin()
	if err != nil {
		return nil // cluster has said so
	}
	info, err := c.ClusterInfo(ctx)
	if err != nil {
		b.missing("nodes", err)
		return nil
	}
	for _, n := range info.Nodes {
		address, err := adminOf(n)
		if err == nil {
			c, err = b.Admin(address)
		}
		if err != nil {
			b.missing(fmt.Sprintf("nodes/%d", n.ID), err)
			continue
		}
		all = append(all, target{n, c})
	}
	return all
}

// adminOf is where a node's admin API is: one that listens everywhere is where Kafka's
// clients find it.
func adminOf(n api.NodeInfo) (string, error) {
	if n.Admin == "" || n.Admin == "off" {
		return "", errors.New("its admin API is off, or it has never come")
	}
	host, port, err := net.SplitHostPort(n.Admin)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = n.Host
	}
	return net.JoinHostPort(host, port), nil
}

// page is one that is read as it is; it takes so long to be made.
type page struct {
	name, path string
	query      url.Values
	takes      time.Duration
}

// pages reads a page of all nodes at once.
func (b *bundle) pages(ctx context.Context, targets []target, p page) {
	ctx, cancel := context.WithTimeout(ctx, askTimeMax+p.takes)
	defer cancel()
	contents, errs := make([]capped, len(targets)), make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		contents[i].left = fileBytesMax
		wg.Go(func() { errs[i] = read(ctx, t.client, p, &contents[i]) })
	}
	wg.Wait()
	for i, t := range targets {
		b.file(fmt.Sprintf("nodes/%d/%s", t.ID, p.name), func(w io.Writer) error {
			_, err := w.Write(contents[i].Bytes())
			return errors.Join(errs[i], err)
		})
	}
}

func read(ctx context.Context, c *client.Client, p page, w io.Writer) error {
	body, err := c.Fetch(ctx, p.path, p.query)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, body)
	return errors.Join(err, body.Close())
}
