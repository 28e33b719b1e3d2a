package pacemaker

import (
	"cmp"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/millrace-io/millrace/broker/core"
	"github.com/millrace-io/millrace/broker/model"
)

// Pacemaker owns the fibers of this node.
type Pacemaker struct {
	o     Options
	seats chan struct{} // of fibers that catch up

	mu     sync.Mutex // guards all below; held for map operations only
	led    map[model.PartitionID]model.LeaderEpoch
	fibers map[model.SourceKey]*fiber
	// scripts are those that were wanted last, of any parent.
	scripts []model.ScriptID
	wake    chan struct{} // a tick after led changed or a fiber ended
}

// New gives a Pacemaker that runs nothing before Run.
func New(o Options) *Pacemaker {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return &Pacemaker{
		o: o, seats: make(chan struct{}, seatsMax), led: map[model.PartitionID]model.LeaderEpoch{},
		fibers: map[model.SourceKey]*fiber{}, wake: make(chan struct{}, 1),
	}
}

// Lead takes a change of leadership. It does not block. The fibers of a parent that is
// lost are over when it returns: what they would still tell its children is for the next
// leader's to say.
func (p *Pacemaker) Lead(e core.Leadership) {
	p.mu.Lock()
	old, led := p.led[e.Partition]
	switch {
	case e.Serving && (!led || e.Epoch >= old):
		p.led[e.Partition] = e.Epoch
	case !e.Serving && led && e.Epoch >= old:
		delete(p.led, e.Partition)
		for _, s := range p.scripts {
			if f := p.fibers[model.SourceKey{Script: s, Parent: e.Partition}]; f != nil {
				f.cancel() // it leaves the map when it has ended
			}
		}
	}
	p.mu.Unlock()
	p.tick()
}

func (p *Pacemaker) tick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run keeps a fiber for every script and led parent partition until ctx ends;
// it returns when all fibers have ended.
func (p *Pacemaker) Run(ctx context.Context) {
	changed, cancel := p.o.View.Watch()
	defer cancel()
	var work sync.WaitGroup
	defer work.Wait()
	if p.o.Journal != nil {
		work.Add(1)
		go func() {
			defer work.Done()
			p.keepJournal(ctx)
		}()
	}
	for {
		p.reconcile(ctx, &work)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-p.wake:
		case <-p.o.Nudge:
			p.nudgeAll()
		}
	}
}

func (p *Pacemaker) nudgeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.fibers {
		f.nudge()
	}
}

// wanted is a fiber that shall run.
type wanted struct {
	spec  *Spec
	topic string
}

// reconcile starts, updates and stops fibers so that they match the view.
func (p *Pacemaker) reconcile(ctx context.Context, work *sync.WaitGroup) {
	specs := p.o.View.Specs()
	p.mu.Lock()
	defer p.mu.Unlock()
	want := p.want(specs)
	p.scripts = p.scripts[:0]
	for _, s := range specs {
		p.scripts = append(p.scripts, s.Script)
	}
	for key, f := range p.fibers {
		if w, ok := want[key]; !ok {
			f.cancel() // it leaves the map when it has ended
		} else if !reflect.DeepEqual(f.spec.Load().Whole(), w.spec) {
			f.update(w.spec)
		}
	}
	for key, w := range want {
		if p.fibers[key] == nil {
			p.start(ctx, work, key, w)
		}
	}
}

func (p *Pacemaker) want(specs []*Spec) map[model.SourceKey]wanted {
	want := map[model.SourceKey]wanted{}
	for _, s := range specs {
		for _, in := range s.Inputs {
			for index := range in.Partitions {
				id := model.PartitionID{Topic: in.ID, Index: index}
				if _, led := p.led[id]; led {
					want[model.SourceKey{Script: s.Script, Parent: id}] = wanted{s, in.Topic}
				}
			}
		}
	}
	return want
}

func (p *Pacemaker) start(ctx context.Context, work *sync.WaitGroup, key model.SourceKey, w wanted) {
	f := newFiber(&p.o, p.seats, w.spec, w.topic, key.Parent)
	ctx, f.cancel = context.WithCancel(ctx)
	p.fibers[key] = f
	work.Add(1)
	go func() {
		defer work.Done()
		defer f.cancel()
		f.run(ctx)
		p.mu.Lock()
		delete(p.fibers, key)
		p.mu.Unlock()
		p.tick() // it may be wanted again
	}()
}

// Status tells how every fiber of this node stands, by script, topic, partition.
func (p *Pacemaker) Status() []Status {
	p.mu.Lock()
	fibers := make([]*fiber, 0, len(p.fibers))
	for _, f := range p.fibers {
		fibers = append(fibers, f)
	}
	p.mu.Unlock()
	all := make([]Status, 0, len(fibers))
	for _, f := range fibers {
		all = append(all, f.describe())
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Parent.Index, b.Parent.Index))
	})
	return all
}

func (f *fiber) describe() Status {
	s := f.status.get()
	s.Script, s.Name, s.Parent, s.Topic = f.key.Script, f.spec.Load().Name, f.key.Parent, f.topic
	return s
}

// Fibers tells how the fibers of one script stand, by topic and partition.
func (p *Pacemaker) Fibers(script model.ScriptID) []Status {
	return slices.DeleteFunc(p.Status(), func(s Status) bool { return s.Script != script })
}
