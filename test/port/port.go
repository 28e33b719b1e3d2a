// Package port finds ports for tests that start listeners again.
package port

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
)

// Free gives loopback addresses that nobody listens at now, and that no
// connection is made from: a broker that is started again could not listen there.
func Free(t testing.TB, count int) []string {
	t.Helper()
	const lowest = 10000
	madeFrom := 0
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		_, err = fmt.Sscan(string(b), &madeFrom)
	}
	if err != nil || madeFrom <= lowest {
		t.Fatalf("connections are made from port %d on: %v", madeFrom, err)
	}
	var all []string
	for range 100 * count {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(madeFrom-lowest)))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close()
		if all = append(all, l.Addr().String()); len(all) == count {
			return all
		}
	}
	t.Fatalf("no %d free ports from %d to %d", count, lowest, madeFrom)
	return nil
}
