package pull

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

const (
	// DefaultBytesPerSecond is how much a node takes from others if nothing is said: it
	// shares disk and network with who produces and consumes.
	DefaultBytesPerSecond = 64 << 20
	// pullsAtOnce is how many partitions are taken side by side: more would only keep
	// each other's leases waiting.
	pullsAtOnce = 4
	// A call is given up after callTimeMin; after each that was, twice as long, to
	// callTimeMax: a piece of 1 MiB over a poor link.
	callTimeMin, callTimeMax = time.Second, 20 * time.Second
	// silentMax is how long a lease may bring nothing but errors before another node is
	// asked: until its files are here a replica does not stand for election.
	silentMax = 300 * time.Millisecond
	// After an error a pull waits, longer each time that nothing has come between.
	backoffMin, backoffMax = 100 * time.Millisecond, 5 * time.Second
)

// ErrStopped says that a pull was stopped before it was done.
var ErrStopped = errors.New("pull was stopped")

// Caller calls other nodes. A Refusal is what the other node has answered; any other
// error says that there is no answer.
type Caller interface {
	Call(ctx context.Context, node model.NodeID, m Method, body []byte) ([]byte, error)
}

// Replica is the partition that is to be brought up: a core.Handle.
type Replica interface {
	Exporter
	// Open tells the raft index that it stands at.
	Open(stop <-chan struct{}) (uint64, error)
	// Files is how its files are opened.
	Files() partition.Options
	// Replace has swap put other files in their place.
	Replace(swap func() error) error
}

// TakerOptions configures a Taker.
type TakerOptions struct {
	// Node is this one, which is not asked.
	Node   model.NodeID
	Caller Caller
	// Peers lists nodes that have a shard's partition, or may have.
	Peers func(model.ShardID) []model.NodeID
	// BytesPerSecond bounds what all pulls together take; 0 is the default, < 0 no bound.
	BytesPerSecond int64
	// Throttle, if set, gives a further bound as it is now, in bytes a second; 0: nothing
	// is taken until it is another.
	Throttle func() int64
	// Space, if set, says with an error that the disk has no room for more than what
	// must be written: a flush that finds none stops the node.
	Space func() error
	Log   *slog.Logger
}

// Taker takes partitions from other nodes. Its methods may be called from any goroutine.
type Taker struct {
	o     TakerOptions
	pace  pace
	seats chan struct{}
	// What was done since the start, for Counts.
	taken, failures atomic.Int64
	underWay        atomic.Int64
}

// NewTaker gives a Taker.
func NewTaker(o TakerOptions) *Taker {
	if o.BytesPerSecond == 0 {
		o.BytesPerSecond = DefaultBytesPerSecond
	}
	return &Taker{o: o, pace: pace{most: o.BytesPerSecond, throttle: o.Throttle}, seats: make(chan struct{}, pullsAtOnce)}
}

// Counts are what a Taker has done since the start.
type Counts struct {
	Bytes    int64         // of pieces
	Failures int64         // tries that ended with an error
	Waited   time.Duration // for BytesPerSecond, of all pulls together
	UnderWay int64         // pulls, now
}

// Counts tells what was done so far.
func (t *Taker) Counts() Counts {
	return Counts{Bytes: t.taken.Load(), Failures: t.failures.Load(), Waited: time.Duration(t.pace.waited.Load()), UnderWay: t.underWay.Load()}
}

// Recover brings r to where a note says, or beyond: see raft's StateMachine. It goes on
// until that is done or stop is closed, and errors but ErrStopped are a note that this
// version does not read and a node that is about to stop.
func (t *Taker) Recover(r Replica, note []byte, stop <-chan struct{}) error {
	n, err := decodeNote(note)
	if err != nil {
		t.o.Log.Error("partition cannot be taken", "err", err)
		return err
	}
	return t.pull(newPulling(t, r, n), stop)
}

// Repair takes the files of a shard's partition anew that cannot be read, from node or
// any other that has them. Nothing may be applied to r meanwhile. It ends as Recover.
func (t *Taker) Repair(r Replica, shard model.ShardID, from model.NodeID, stop <-chan struct{}) error {
	p := newPulling(t, r, note{maker: from, shard: shard})
	p.anew = true
	return t.pull(p, stop)
}

func (t *Taker) pull(p *pulling, stop <-chan struct{}) error {
	t.underWay.Add(1)
	defer t.underWay.Add(-1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ended:
		}
	}()
	defer p.end(ctx)
	return p.run(ctx)
}

// run tries until it is done.
func (p *pulling) run(ctx context.Context) error {
	began, wait, failed := time.Now(), backoffMin, 0
	for {
		taken := p.taken
		if !p.t.sit(ctx) {
			return ErrStopped
		}
		done, err := p.try(ctx)
		<-p.t.seats
		switch {
		case done && err == nil:
			if p.taken > 0 {
				p.t.o.Log.Info("partition taken", "shard", uint64(p.shard), "bytes", p.taken, "took", time.Since(began))
			}
			return nil
		case done:
			return err
		case ctx.Err() != nil:
			return ErrStopped
		}
		p.t.failures.Add(1)
		if p.taken > taken {
			wait, failed = backoffMin, 0
		}
		if failed++; failed == 1 || failed%10 == 0 { // a line at first, and then one each minute or so
			p.t.o.Log.Warn("partition not taken yet", "shard", uint64(p.shard), "bytes", p.taken, "err", err)
		}
		if !sleep(ctx, wait+p.apart()) {
			return ErrStopped
		}
		wait = min(2*wait, backoffMax)
	}
}

// apart keeps pulls that failed together from coming back at one moment: who then finds a
// seat would be drawn by the scheduler, and the simulator's runs would not repeat.
func (p *pulling) apart() time.Duration { return time.Duration(p.shard%1000) * time.Microsecond }

// sit takes a seat, which who waits does not hold; false: ctx has ended.
func (t *Taker) sit(ctx context.Context) bool {
	select {
	case t.seats <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// sleep tells whether it was not ended early.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pace spaces pieces out, of all pulls together. mu guards debt, in bytes that passed and
// that their time has not made up for yet at since.
type pace struct {
	most     int64 // bytes a second; < 0: no bound
	throttle func() int64
	mu       sync.Mutex
	debt     float64
	since    time.Time
	waited   atomic.Int64 // nanoseconds
}

// throttleLook is the longest wait before it is looked whether the rate is another.
const throttleLook = time.Second

// perSecond gives the bytes that may pass in a second now, < 0 for no bound.
func (p *pace) perSecond() int64 {
	if p.throttle == nil {
		return p.most
	}
	if t := p.throttle(); p.most < 0 || t < p.most {
		return t
	}
	return p.most
}

// turn waits until bytes more may be asked for.
func (p *pace) turn(ctx context.Context, bytes int64) error {
	for {
		rate := p.perSecond()
		if rate < 0 {
			return ctx.Err()
		}
		wait := p.take(bytes, rate)
		if wait == 0 {
			return ctx.Err()
		}
		p.waited.Add(int64(min(wait, throttleLook)))
		if !sleep(ctx, min(wait, throttleLook)) {
			return fmt.Errorf("wait for a turn: %w", ctx.Err())
		}
	}
}

// take gives how long it is until bytes may pass at a rate; 0: they have passed.
func (p *pace) take(bytes, rate int64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.since.IsZero() {
		p.debt = max(0, p.debt-now.Sub(p.since).Seconds()*float64(rate))
	}
	p.since = now
	switch {
	case rate == 0:
		return throttleLook
	case p.debt > 0:
		return max(time.Duration(p.debt/float64(rate)*float64(time.Second)), time.Millisecond)
	}
	p.debt = float64(bytes)
	return 0
}
