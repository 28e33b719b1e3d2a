package config

import (
	"fmt"
	"slices"
	"strings"
)

// Listener is where Kafka clients connect, or are told to. Its name is what ties the
// two together, over all nodes; one listener of a node may have none.
type Listener struct {
	Name string
	Address
}

// String gives the form that the flag takes.
func (l Listener) String() string {
	if l.Name == "" {
		return l.Address.String()
	}
	return l.Name + nameEnd + l.Address.String()
}

const (
	// nameEnd parts a listener's name from its address, as in Kafka.
	nameEnd = "://"
	// listenersMax bounds one node's: each is in every node's record of it.
	listenersMax = 16
	// listenerNameMax bounds a name, in bytes.
	listenerNameMax = 64
)

// readListeners reads [NAME://]HOST:PORT,...; none is off.
func (r *Row) readListeners(text string) ([]Listener, error) {
	if text == "off" || text == "" && r.Default == "" {
		return nil, nil
	}
	var all []Listener
	for _, part := range strings.Split(text, ",") {
		l, err := r.readListener(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(o Listener) bool { return o.Name == l.Name }) {
			if l.Name == "" {
				return nil, r.refuse(text, "of several listeners at most one may be without a name, NAME://HOST:PORT")
			}
			return nil, r.refuse(text, fmt.Sprintf("listener %s is given twice", l.Name))
		}
		all = append(all, l)
	}
	if len(all) > listenersMax {
		return nil, r.refuse(text, fmt.Sprintf("%d listeners are given, the most is %d", len(all), listenersMax))
	}
	return all, nil
}

func (r *Row) readListener(text string) (l Listener, err error) {
	name, address, named := strings.Cut(text, nameEnd)
	if !named {
		name, address = "", text
	}
	if named && !isListenerName(name) {
		return l, r.refuse(text, fmt.Sprintf("a listener's name has letters, digits and underscores, 1 to %d", listenerNameMax))
	}
	if address == "" || address == "off" { // which readAddress takes for one that is alone
		return l, r.refuse(text, "want [NAME://]HOST:PORT, with a comma between several, or off")
	}
	l.Name = name
	l.Address, err = r.readAddress(address)
	return l, err
}

func isListenerName(name string) bool {
	other := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_')
	}
	return name != "" && len(name) <= listenerNameMax && !strings.ContainsFunc(name, other)
}

// finishListeners checks that what clients are told belongs to what is listened on.
func (n *Node) finishListeners() error {
	if len(n.Kafka) == 0 && len(n.AdvertiseKafka) > 0 {
		return fmt.Errorf("%w: advertise_kafka_addr is given, but kafka_addr is off", ErrInvalid)
	}
	for _, a := range n.AdvertiseKafka {
		if _, ok := listenerOf(n.Kafka, a.Name); !ok {
			return fmt.Errorf("%w: advertise_kafka_addr has %s, but kafka_addr has no listener of that name: it is %v", ErrInvalid, a, n.Kafka)
		}
	}
	return nil
}

// Advertised gives what clients that come in by a listener are to be told; zero: where
// it listens.
func (n *Node) Advertised(listener string) Address {
	l, _ := listenerOf(n.AdvertiseKafka, listener)
	return l.Address
}

func listenerOf(all []Listener, name string) (Listener, bool) {
	i := slices.IndexFunc(all, func(l Listener) bool { return l.Name == name })
	if i < 0 {
		return Listener{}, false
	}
	return all[i], true
}
