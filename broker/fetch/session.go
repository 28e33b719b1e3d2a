package fetch

import (
	"container/list"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/model"
)

var (
	// ErrSessionUnknown says that a fetch session is not here: begin a new one.
	ErrSessionUnknown = errors.New("unknown fetch session")
	// ErrSessionEpoch says that a fetch is not the session's next one: begin anew.
	ErrSessionEpoch = errors.New("unexpected epoch of the fetch session")
	// ErrSessionTopicIDs says that a session that names topics by name is now asked
	// by id, or the reverse: begin a new one.
	ErrSessionTopicIDs = errors.New("fetch session names topics in another way")
)

// The epochs of a session that are not counted.
const (
	SessionInitial int32 = 0  // begin a session
	SessionFinal   int32 = -1 // without a session, and end the one named
)

const (
	sessionsDefault = 1000 // as Kafka's max.incremental.fetch.session.cache.slots
	// sessionPartitionsMax bounds all sessions' partitions; each costs about 200 bytes.
	sessionPartitionsMax = 1 << 18
	// sessionIdleMin is how long a session is safe from making room for another.
	sessionIdleMin = 2 * time.Minute
)

// SessionTopic names a topic as the client does: by one of the two.
type SessionTopic struct {
	Name string
	ID   model.TopicID
}

// SessionKey names a partition within a session.
type SessionKey struct {
	Topic SessionTopic
	Index int32
}

// SessionPartition is what a session remembers of a partition: what is asked,
// and what was last told.
type SessionPartition struct {
	Key          SessionKey
	From         model.Offset
	BytesMax     int
	CurrentEpoch model.LeaderEpoch

	told     bool // once, at least
	high     model.Offset
	logStart model.Offset
	failed   bool
}

// SessionAsk is the session's part of a fetch request.
type SessionAsk struct {
	ID, Epoch int32
	ByID      bool // topics are named by id
	// Partitions are all, or, of a session that goes on, those new or changed.
	Partitions []SessionPartition
	Forgotten  []SessionKey
}

// SessionLimits bounds a Sessions. Zero fields take the default.
type SessionLimits struct {
	SessionsMax   int
	PartitionsMax int
	Now           func() time.Time
}

// Sessions are the fetch sessions of this node, KIP-227: a client that asks for
// the same partitions again and again names only what changed, and is told only
// what is new. Safe from any goroutine; a session belongs to nobody's
// connection.
type Sessions struct {
	limits     SessionLimits
	mu         sync.Mutex // guards all below and what is in the sessions
	byID       map[int32]*session
	byAge      *list.List // of *session, the one unused for longest first
	partitions int
}

// session is guarded by the mutex of its Sessions.
type session struct {
	id, epoch int32 // of the next fetch
	byIDs     bool
	order     *list.List // of *SessionPartition; those answered last go to the end
	byKey     map[SessionKey]*list.Element
	used      time.Time
	age       *list.Element
}

// NewSessions gives no sessions.
func NewSessions(l SessionLimits) *Sessions {
	if l.SessionsMax <= 0 {
		l.SessionsMax = sessionsDefault
	}
	if l.PartitionsMax <= 0 {
		l.PartitionsMax = sessionPartitionsMax
	}
	if l.Now == nil {
		l.Now = time.Now
	}
	return &Sessions{limits: l, byID: map[int32]*session{}, byAge: list.New()}
}

// Turn is one fetch of a session, or of none.
type Turn struct {
	// ID is the session's; 0 without one.
	ID int32
	// Incremental tells that the answer leaves out what has nothing new.
	Incremental bool
	// Partitions are to be fetched, in this order. They are the caller's copies.
	Partitions []SessionPartition

	sessions *Sessions
	session  *session
}

// Begin takes a fetch's session part and gives what is to be fetched.
func (s *Sessions) Begin(ask SessionAsk) (*Turn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch ask.Epoch {
	case SessionFinal:
		s.drop(s.byID[ask.ID])
		return &Turn{Partitions: ask.Partitions}, nil
	case SessionInitial:
		s.drop(s.byID[ask.ID])
		return s.open(ask), nil
	}
	f := s.byID[ask.ID]
	switch {
	case f == nil:
		return nil, ErrSessionUnknown
	case f.epoch != ask.Epoch:
		return nil, ErrSessionEpoch
	case f.byIDs != ask.ByID:
		return nil, ErrSessionTopicIDs
	}
	s.update(f, ask)
	if f.order.Len() == 0 || s.partitions > s.limits.PartitionsMax {
		t := &Turn{Partitions: f.copies()}
		s.drop(f)
		return t, nil
	}
	f.epoch = nextEpoch(f.epoch)
	f.used = s.limits.Now()
	s.byAge.MoveToBack(f.age)
	return &Turn{ID: f.id, Incremental: true, Partitions: f.copies(), sessions: s, session: f}, nil
}

// open begins a session if there is room for it.
func (s *Sessions) open(ask SessionAsk) *Turn {
	if len(ask.Partitions) == 0 || !s.room(len(ask.Partitions)) {
		return &Turn{Partitions: ask.Partitions}
	}
	f := &session{
		id: s.newID(), epoch: 1, byIDs: ask.ByID, order: list.New(),
		byKey: make(map[SessionKey]*list.Element, len(ask.Partitions)), used: s.limits.Now(),
	}
	f.age = s.byAge.PushBack(f)
	s.byID[f.id] = f
	s.update(f, ask)
	return &Turn{ID: f.id, Partitions: f.copies(), sessions: s, session: f}
}

// room makes room for a session of n partitions by dropping what has long been
// unused, if it must and can.
func (s *Sessions) room(n int) bool {
	if n > s.limits.PartitionsMax {
		return false
	}
	for len(s.byID) >= s.limits.SessionsMax || s.partitions+n > s.limits.PartitionsMax {
		oldest := s.byAge.Front()
		if oldest == nil {
			return false
		}
		f := oldest.Value.(*session)
		if s.limits.Now().Sub(f.used) < sessionIdleMin {
			return false
		}
		s.drop(f)
	}
	return true
}

func (s *Sessions) newID() int32 {
	for {
		id := rand.Int32N(math.MaxInt32) + 1
		if s.byID[id] == nil {
			return id
		}
	}
}

// update adds, changes and forgets partitions as asked.
func (s *Sessions) update(f *session, ask SessionAsk) {
	for i := range ask.Partitions {
		p := &ask.Partitions[i]
		if e, ok := f.byKey[p.Key]; ok {
			known := e.Value.(*SessionPartition)
			known.From, known.BytesMax, known.CurrentEpoch = p.From, p.BytesMax, p.CurrentEpoch
			continue
		}
		added := *p
		f.byKey[p.Key] = f.order.PushBack(&added)
		s.partitions++
	}
	for _, key := range ask.Forgotten {
		if e, ok := f.byKey[key]; ok {
			f.order.Remove(e)
			delete(f.byKey, key)
			s.partitions--
		}
	}
}

func (s *Sessions) drop(f *session) {
	if f == nil || s.byID[f.id] != f {
		return
	}
	delete(s.byID, f.id)
	s.byAge.Remove(f.age)
	s.partitions -= f.order.Len()
}

func (f *session) copies() []SessionPartition {
	out := make([]SessionPartition, 0, f.order.Len())
	for e := f.order.Front(); e != nil; e = e.Next() {
		out = append(out, *e.Value.(*SessionPartition))
	}
	return out
}

// nextEpoch counts from 1 again after the largest.
func nextEpoch(e int32) int32 {
	if e == math.MaxInt32 {
		return 1
	}
	return e + 1
}

// Told is what an answer says of one partition.
type Told struct {
	High, LogStart model.Offset
	Records        bool // there are some
	Failed         bool // it has an error
	Elsewhere      bool // it is to be read from another node
}

// Answer takes what was found for the partitions of the turn, in their order,
// and says which of them belong into the answer. Partitions with records go to
// the end of the session's order, so that none starves behind others.
func (t *Turn) Answer(told []Told) (include []bool) {
	include = make([]bool, len(told))
	if t.session == nil {
		for i := range include {
			include[i] = true
		}
		return include
	}
	t.sessions.mu.Lock()
	defer t.sessions.mu.Unlock()
	for i, n := range told {
		e, ok := t.session.byKey[t.Partitions[i].Key]
		if !ok { // forgotten by a request that overtook this one's answer
			include[i] = true
			continue
		}
		p := e.Value.(*SessionPartition)
		changed := !p.told || n.Records || n.Failed || n.Elsewhere || p.failed || n.High != p.high || n.LogStart != p.logStart
		include[i] = changed || !t.Incremental
		p.told, p.high, p.logStart, p.failed = true, n.High, n.LogStart, n.Failed
		if n.Records {
			t.session.order.MoveToBack(e)
		}
	}
	return include
}

// Len tells how many sessions and how many partitions in them there are.
func (s *Sessions) Len() (sessions, partitions int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID), s.partitions
}
