package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/kafka"
)

// listen opens every listener first: a taken port ends the start before
// anything has happened.
func (s *Server) listen(context.Context, identity) error {
	for _, l := range s.n.Kafka {
		if err := s.open(kafkaKey(l.Name), "kafka-addr", l.Address); err != nil {
			return err
		}
	}
	if !s.n.Admin.Off {
		if err := s.open("admin", "admin-addr", s.n.Admin); err != nil {
			return err
		}
	}
	var err error
	if s.rpcListen, s.advertise, err = s.rpcAddresses(); err != nil {
		return err
	}
	for name, a := range map[string]config.Address{"proxy_addr": s.n.Proxy, "registry_addr": s.n.Registry} {
		if !a.Off && a != (config.Address{}) {
			s.log.Warn("nothing is served there yet", "setting", name, "address", a)
		}
	}
	return nil
}

func (s *Server) open(name, flag string, a config.Address) error {
	l, err := net.Listen("tcp", net.JoinHostPort(a.Host, strconv.Itoa(a.Port)))
	if err != nil {
		return fmt.Errorf("listen for %s on %s: %w; choose another with --%s", name, a, err, flag)
	}
	s.listeners[name] = l
	return nil
}

// kafkaKey is how the ready line, the admin API and the log call a Kafka listener.
func kafkaKey(listener string) string {
	if listener == "" {
		return "kafka"
	}
	return "kafka." + listener
}

// address is where a listener really is, or "off". "kafka" is the one without a name,
// or else the first.
func (s *Server) address(name string) string {
	l, ok := s.listeners[name]
	if !ok && name == "kafka" && len(s.n.Kafka) > 0 {
		l, ok = s.listeners[kafkaKey(s.n.Kafka[0].Name)]
	}
	if !ok {
		return "off"
	}
	return l.Addr().String()
}

// addresses gives every listener's, by name; "kafka" is always among them if one is on.
func (s *Server) addresses() map[string]string {
	all := map[string]string{}
	for name := range s.listeners {
		all[name] = s.address(name)
	}
	if len(s.n.Kafka) > 0 {
		all["kafka"] = s.address("kafka")
	}
	return all
}

func (s *Server) readyLine() string {
	var named strings.Builder
	for _, l := range s.n.Kafka {
		if l.Name != "" {
			fmt.Fprintf(&named, " %s=%s", kafkaKey(l.Name), s.address(kafkaKey(l.Name)))
		}
	}
	return fmt.Sprintf("ready node=%d kafka=%s%s admin=%s sidecar=%s",
		s.n.ID, s.address("kafka"), &named, s.address("admin"), s.scripts.sidecar().State)
}

// registration is what others are told of this node.
func (s *Server) registration() (cluster.Node, error) {
	n := cluster.Node{ID: s.n.ID, Rack: s.n.Rack, Admin: s.address("admin"), RPC: s.advertise, Version: s.version, Level: controller.LevelBuild}
	for i, l := range s.n.Kafka {
		host, port, err := s.advertised(l.Name)
		if err != nil {
			return n, err
		}
		if l.Name != "" {
			n.Listeners = append(n.Listeners, controller.Listener{Name: l.Name, Host: host, Port: port})
		}
		if i == 0 || l.Name == "" {
			n.Host, n.Port = host, port
		}
	}
	return n, nil
}

// advertised is what clients of a Kafka listener are told of this node.
func (s *Server) advertised(listener string) (host string, port int32, err error) {
	host, portText, err := net.SplitHostPort(s.address(kafkaKey(listener)))
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.Atoi(portText)
	if err != nil {
		return "", 0, err
	}
	told := s.n.Advertised(listener)
	if told.Port != 0 {
		p = told.Port
	}
	if told.Host != "" {
		return told.Host, int32(p), nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", 0, err
		}
	}
	return host, int32(p), nil
}

// advertised gives what clients of a node's listeners with names are told.
func advertised(n cluster.Node) map[string]string {
	if len(n.Listeners) == 0 {
		return nil
	}
	all := map[string]string{}
	for _, l := range n.Listeners {
		all[l.Name] = net.JoinHostPort(l.Host, strconv.Itoa(int(l.Port)))
	}
	return all
}

// serveKafka serves every Kafka listener.
func (s *Server) serveKafka() {
	for _, l := range s.n.Kafka {
		serve := func(on net.Listener) error { return s.kafka.ServeAs(l.Name, on) }
		s.serve(kafkaKey(l.Name), serve, kafka.ErrClosed)
	}
}
