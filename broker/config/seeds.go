package config

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-io/millrace/broker/model"
)

// Seed is a node that forms the cluster, and where other nodes connect to it.
type Seed struct {
	ID      model.NodeID
	Address string // HOST:PORT
}

// String gives the form that the flag takes.
func (s Seed) String() string { return fmt.Sprintf("%d@%s", s.ID, s.Address) }

// ParseSeeds reads what --seeds takes.
func ParseSeeds(text string) ([]Seed, error) {
	v := value{list: splitList(text)}
	if why := checkSeeds(v); why != "" {
		return nil, fmt.Errorf("%w of seeds: %s", ErrInvalid, why)
	}
	return seedsOf(v.list), nil
}

// ParseSeed reads one of what --seeds takes.
func ParseSeed(text string) (Seed, error) {
	idText, address, ok := strings.Cut(text, "@")
	id, err := strconv.ParseInt(idText, 10, 32)
	if !ok || err != nil || id < 0 {
		return Seed{}, fmt.Errorf("%q: want ID@HOST:PORT", text)
	}
	host, portText, err := net.SplitHostPort(address)
	port, portErr := strconv.ParseUint(portText, 10, 16)
	if err != nil || portErr != nil || host == "" || port == 0 {
		return Seed{}, fmt.Errorf("%q: want ID@HOST:PORT with a port that others can dial", text)
	}
	return Seed{model.NodeID(id), address}, nil
}

// foundersAllowed are the counts of seeds that gain from the last one: two, or four,
// stand no more failures than one or three.
var foundersAllowed = []int{0, 1, 3, 5}

func checkSeeds(v value) string {
	var seeds []Seed
	for _, text := range v.list {
		s, err := ParseSeed(text)
		if err != nil {
			return err.Error()
		}
		for _, other := range seeds {
			if other.ID == s.ID || other.Address == s.Address {
				return fmt.Sprintf("%s and %s are given; ids and addresses must differ", other, s)
			}
		}
		seeds = append(seeds, s)
	}
	if !slices.Contains(foundersAllowed, len(seeds)) {
		return fmt.Sprintf("%d nodes are given; a cluster is formed by 1, 3 or 5", len(seeds))
	}
	return ""
}

// seedsOf reads what checkSeeds has passed.
func seedsOf(list []string) []Seed {
	var seeds []Seed
	for _, text := range list {
		s, err := ParseSeed(text)
		must(err == nil, "a checked seed does not parse: %v", err)
		seeds = append(seeds, s)
	}
	slices.SortFunc(seeds, func(a, b Seed) int { return int(a.ID) - int(b.ID) })
	return seeds
}

// isSeed tells whether a seed is this node: by its id, or, where none is given, by
// where it is to be reached.
func (n *Node) isSeed(s Seed) bool {
	if n.ID != model.NoNode {
		return s.ID == n.ID
	}
	return s.Address == n.AdvertiseRPC.String() || s.Address == n.RPC.String()
}

// finishSeeds checks what depends on other settings too, and takes from the list
// what it says of this node.
func (n *Node) finishSeeds() error {
	if len(n.Seeds) == 0 {
		return nil
	}
	at := slices.IndexFunc(n.Seeds, n.isSeed)
	if n.RPC.Off {
		return fmt.Errorf("%w: seeds are given, but rpc_addr is off", ErrInvalid)
	}
	if n.Mode == ModeProd && n.RPCCert == "" && (len(n.Seeds) > 1 || at < 0) {
		return fmt.Errorf("%w: seeds are given without rpc_tls_cert, rpc_tls_key and rpc_tls_ca: nodes talk in plaintext in dev mode only", ErrInvalid)
	}
	if at < 0 {
		return nil // it joins
	}
	n.ID = n.Seeds[at].ID
	host, portText, err := net.SplitHostPort(n.Seeds[at].Address)
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return err
	}
	if n.AdvertiseRPC == (Address{}) {
		n.AdvertiseRPC = Address{Host: host, Port: port}
	}
	if _, given := n.Given["rpc_addr"]; !given {
		n.RPC = Address{Host: host, Port: port}
	}
	return nil
}
