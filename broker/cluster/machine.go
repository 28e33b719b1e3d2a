package cluster

// StateMachine is the controller's state as raft drives it: one goroutine.
type StateMachine struct {
	cluster *Cluster
}

func (s *StateMachine) init(c *Cluster) { s.cluster = c; c.publish(&Metadata{}) }

// Apply takes one command and publishes what it changed before it returns.
func (s *StateMachine) Apply(index uint64, cmd []byte) (result []byte) { panic("not yet") }

// Snapshot gives the whole state.
func (s *StateMachine) Snapshot() ([]byte, error) { panic("not yet") }

// Restore replaces the state with a snapshot's and publishes it.
func (s *StateMachine) Restore(snapshot []byte) error { panic("not yet") }
