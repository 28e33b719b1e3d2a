package kafka

// Groups is what the group APIs ask of the coordinator.
type Groups interface{}

// groupRows are the rows of consumer groups: offsets and membership.
func groupRows() []row { return nil }
