package kafka

import "time"

// Limits bounds what strangers may cost this node. Zero fields take the default.
type Limits struct {
	// ConnectionsMax is how many connections are served at once; further ones
	// are closed as they come.
	ConnectionsMax int
	// Idle is how long a connection may send nothing.
	Idle time.Duration
	// FrameBytesMax is the largest request.
	FrameBytesMax int
	// RequestBytes is the budget of requests in flight, over all connections.
	RequestBytes int64
	// ResponseBytes is the budget of answers not yet taken by their readers.
	ResponseBytes int64
}

const (
	connectionsDefault   = 10_000           // a connection costs about 16 KiB and two goroutines
	idleDefault          = 10 * time.Minute // as Kafka's connections.max.idle.ms
	frameDefault         = 100 << 20        // as Kafka's socket.request.max.bytes
	requestBytesDefault  = 256 << 20        //
	responseBytesDefault = 256 << 20        //

	// frameBytesMaxEarly bounds a connection's first frame unless it begins like
	// a request that is served.
	frameBytesMaxEarly = 512 << 10
	// frameStepBytes is how much of a frame is allocated before its bytes come.
	frameStepBytes = 64 << 10
	// frameSmallBytes parts the frames that share one budget from the huge ones,
	// which wait for each other in another; those up to frameStepBytes have a third.
	frameSmallBytes = 1 << 20
	// stallPoll is how often a stalled read or write looks whether it must give way.
	stallPoll = time.Second
	// stallMax is how long a frame, or an answer, may make no progress.
	stallMax = 30 * time.Second
	// stallMaxPressed is stallMax while others wait for the budget it holds.
	stallMaxPressed = 3 * time.Second
	// frameRateMin is how many bytes a second of a frame must come, beyond the first
	// stallMaxPressed, while others wait for the budget it holds.
	frameRateMin = 1 << 20
	// takeMaxPressed is how long an answer may take to be read while others wait for
	// the budget that it holds; writePoll how often that is looked at.
	takeMaxPressed = 2 * time.Second
	writePoll      = 250 * time.Millisecond
	// answersMax is how many answers of one connection may be queued: clients
	// keep 5 produces in flight, some tools more.
	answersMax = 256
	// writeBytesMax is how much the writer gathers into one write.
	writeBytesMax = 256 << 10
)

func (l Limits) withDefaults() Limits {
	if l.ConnectionsMax <= 0 {
		l.ConnectionsMax = connectionsDefault
	}
	if l.Idle <= 0 {
		l.Idle = idleDefault
	}
	if l.FrameBytesMax <= 0 {
		l.FrameBytesMax = frameDefault
	}
	if l.RequestBytes <= 0 {
		l.RequestBytes = requestBytesDefault
	}
	if l.ResponseBytes <= 0 {
		l.ResponseBytes = responseBytesDefault
	}
	// A frame must fit into the half of the budget that huge frames share.
	l.FrameBytesMax = int(min(int64(l.FrameBytesMax), max(l.RequestBytes/2, frameSmallBytes)))
	return l
}
