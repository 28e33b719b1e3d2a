package server

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace-io/millrace/broker/config"
)

// listening is a server that has come as far as listen.
func listening(t *testing.T, kafka, advertise string) (*Server, error) {
	t.Helper()
	n, err := config.Load(config.Sources{Flags: map[string]string{"admin-addr": "off", "kafka-addr": kafka, "advertise-kafka-addr": advertise}})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(n, "test", slog.New(slog.DiscardHandler), nil)
	t.Cleanup(func() {
		for _, l := range s.listeners {
			_ = l.Close()
		}
	})
	return s, s.listen(t.Context(), identity{})
}

// TestRegistrationTellsEveryListener: ports are free ones unless they are advertised, and
// a host that stands for all is this machine's name.
func TestRegistrationTellsEveryListener(t *testing.T) {
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for kafka, c := range map[string]struct {
		advertise, want string
		keys            []string
	}{
		"off":                                    {"", ": []", nil},
		"127.0.0.1:0":                            {"", "127.0.0.1:P []", []string{"kafka"}},
		"0.0.0.0:0":                              {"", own + ":P []", []string{"kafka"}},
		"[::]:0":                                 {"x.example:7", "x.example:7 []", []string{"kafka"}},
		"in://127.0.0.1:0,out://0.0.0.0:0":       {"out://x.example:0", "127.0.0.1:P [in=127.0.0.1:P out=x.example:P]", []string{"kafka", "kafka.in", "kafka.out"}},
		"out://0.0.0.0:0,127.0.0.1:0":            {"out://x.example:7", "127.0.0.1:P [out=x.example:7]", []string{"kafka", "kafka.out"}},
		"a://127.0.0.1:0,b://:0,c://127.0.0.1:0": {"b://:9,c://y:0", "127.0.0.1:P [a=127.0.0.1:P b=" + own + ":9 c=y:P]", []string{"kafka", "kafka.a", "kafka.b", "kafka.c"}},
	} {
		s, err := listening(t, kafka, c.advertise)
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.registration()
		if err != nil {
			t.Fatal(err)
		}
		var listeners []string
		for _, l := range n.Listeners {
			listeners = append(listeners, l.Name+"="+place(s, l.Name, l.Host, l.Port))
		}
		first := ":"
		if n.Host != "" {
			first = place(s, "", n.Host, n.Port)
		}
		if got := fmt.Sprint(first, " ", listeners); got != c.want {
			t.Errorf("%s: %s, want %s", kafka, got, c.want)
		}
		if got := slices.Sorted(maps.Keys(s.addresses())); !slices.Equal(got, c.keys) {
			t.Errorf("%s: listeners %v", kafka, got)
		}
	}
}

// place writes P for the port that a listener was given.
func place(s *Server, listener, host string, port int32) string {
	at := s.address(kafkaKey(listener))
	if strings.HasSuffix(at, fmt.Sprint(":", port)) {
		return host + ":P"
	}
	return fmt.Sprint(host, ":", port)
}

func TestTwoListenersOfOnePort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	_, err = listening(t, "in://"+at+",out://"+at, "")
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "kafka.out") || !strings.Contains(err.Error(), "--kafka-addr") {
		t.Errorf("two listeners on %s: %v", at, err)
	}
}
