package transport

import "time"

// What a frame may be. dragonboat ends a batch at 64 MiB of its own estimate, in
// which an entry's fields count 144 bytes and a message's 208: ours take less
// than half of that, so a batch never exceeds these.
const (
	metaBytesMax = 32 << 20
	dataBytesMax = 64 << 20
	// dragonboat cuts snapshots into chunks of 2 MiB.
	chunkDataBytesMax = 4 << 20
	// A chunk's meta holds a membership and paths; an answer's holds a text.
	smallMetaBytesMax = 1 << 20
	// helloBytesMax is all that a stranger can make a node read.
	helloBytesMax   = 1 << 10
	refusedBytesMax = 256
	nameBytesMax    = 255
	// CallBytesMax is for a call's body and for a reply's: pieces of a file, record
	// batches, and what a fiber appends at once, which is as large as a command of the
	// log may be, 64 MiB.
	CallBytesMax = 66 << 20
	// refusalBytesMax is for the text of a result that is a refusal.
	refusalBytesMax = 1 << 10
)

// What frames may take in memory while they are read and handed over. A
// connection has one at a time.
const (
	// messageBudgetBytes is for the frames of all message connections. A frame
	// that needs more takes all of it and is alone.
	messageBudgetBytes = 128 << 20
	// chunkBudgetBytes has its own account: chunks wait for a disk, messages must not.
	chunkBudgetBytes = 32 << 20
	// callBudgetBytes is for calls, from their first byte to their answer.
	// resultBudgetBytes is for results, which wait for nobody: were it the same,
	// calls whose answers need an answer of another node could keep it out. As with
	// messages a frame that needs more takes all of it and is alone.
	callBudgetBytes   = 32 << 20
	resultBudgetBytes = 32 << 20
	// decodedFactor is how much larger than its meta a decoded batch is at most.
	decodedFactor = 4
	// budgetFreeBytes need no budget, so that heartbeats never wait for a large
	// append: connections are counted, and these bytes are their read buffer's.
	budgetFreeBytes = readBufferBytes
	// stepBytes is what a length alone makes a node allocate: a whole chunk. A
	// longer piece grows as it comes.
	stepBytes = 2 << 20
	// sharedBytesMax: the commands of a frame this long share one allocation. In
	// a longer one each message has its own: a command that somebody keeps keeps
	// all that it shares memory with.
	sharedBytesMax = 32 << 10
	// scratchBytesMax and scratchMessagesMax are what a connection keeps for its next frame.
	scratchBytesMax    = 1 << 20
	scratchMessagesMax = 1 << 10

	readBufferBytes   = 64 << 10
	answerBufferBytes = 4 << 10
	writeBufferBytes  = 64 << 10
	// acceptedMax is how many connections a node accepts at once: two for each
	// peer and one for each snapshot are the rule, and those for calls.
	// acceptedCallsMax is how many of them may be for calls: Raft always finds room.
	acceptedMax      = 1024
	acceptedCallsMax = 768

	// callsMax is how many calls of one target may be under way, each on its own
	// connection: 64 of 5 ms are 12,800 a second. Others wait.
	callsMax = 64
	// callsKeptMax is how many connections to one target stay when no call uses them.
	callsKeptMax = 4
)

// How long things may take.
const (
	// connectTimeMax covers dial, TLS and hello.
	connectTimeMax = 5 * time.Second
	// dialTimeMax is for a connection for messages before TLS and hello: one way back and
	// forth. It is given up when what was sent on it is unheard of for unheardTimeMax.
	dialTimeMax    = 500 * time.Millisecond
	unheardTimeMax = 800 * time.Millisecond
	// One is dialed again and again for reachTimeMax: every hedgePause while fewer than
	// hedgesMax dials have no end yet, and after pauses that grow from redialPause to
	// redialPauseMax where they fail. One that breaks too, if it was redialPause old: a peer that ends
	// each at once is left to dragonboat's breaker. Messages wait redialWait for it.
	reachTimeMax   = 2 * time.Second
	hedgePause     = 100 * time.Millisecond
	hedgesMax      = 4
	redialPause    = 10 * time.Millisecond
	redialPauseMax = 160 * time.Millisecond
	redialWait     = 10 * time.Millisecond
	// Each end of a connection pings this often. Who hears nothing for three of
	// them takes the peer for dead; TCP alone would repeat into the void for minutes.
	pingInterval   = 2 * time.Second
	silenceTimeMax = 3 * pingInterval
	// A frame may take frameTimeMin and a second more for every frameRateMin bytes,
	// written or read: who is slower holds up a queue, or a budget.
	frameTimeMin = 10 * time.Second
	frameRateMin = 1 << 20
	// takenTimeMax bounds the wait for a chunk to be written by its receiver.
	takenTimeMax = time.Minute
	// callTimeMax bounds a call whose context does not: its turn, dial, write and answer.
	callTimeMax = time.Minute
	// acceptPause is the wait after an accept that failed, as when descriptors run out.
	acceptPause = 100 * time.Millisecond
)

// frameTimeMax is how long a frame of n bytes may take.
func frameTimeMax(n int) time.Duration {
	return frameTimeMin + time.Duration(n)*time.Second/frameRateMin
}
