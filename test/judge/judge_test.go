package judge

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"
)

// telling is a true history: three producers write to two partitions, in turn; of every
// tenth record they were not told whether it is stored, and every other of those is.
// Two readers followed.
type telling struct {
	h    *History
	logs [2][]Stored
	now  time.Time
}

const (
	producers = 3
	each      = 40
	pace      = time.Millisecond
)

func tell() *telling {
	w := &telling{h: New(), now: time.UnixMilli(1_000_000)}
	w.h.Period("a calm day", time.Second, w.now)
	for i := range each {
		for producer := range producers {
			for p := range w.logs {
				w.write(p, producer, i%10 != 9, i%20 != 19)
			}
		}
	}
	for p, log := range w.logs {
		for _, s := range log {
			w.h.Read("one", p, s.Offset, s.Value)
		}
		for _, s := range log[:len(log)/2] {
			w.h.Read("other", p, s.Offset, s.Value)
		}
	}
	return w
}

func (w *telling) write(p, producer int, acked, stored bool) {
	w.now = w.now.Add(pace)
	r := w.h.Send(p, producer, w.now)
	offset := int64(len(w.logs[p]))
	if stored {
		w.logs[p] = append(w.logs[p], Stored{offset, r.Value()})
	}
	if acked {
		w.h.Ack(r, offset, w.now)
	}
}

// kinds gives the kinds of what is found, each once.
func (w *telling) kinds() (kinds []Kind) {
	for p, log := range w.logs {
		w.h.Log("the end", p, log)
	}
	set := map[Kind]bool{}
	for _, f := range w.h.Found() {
		set[f.Kind] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// find gives the place of a record in a partition.
func (w *telling) find(p, producer, number int) int {
	value := Record{p, producer, number}.Value()
	return slices.IndexFunc(w.logs[p], func(s Stored) bool { return string(s.Value) == string(value) })
}

// unread forgets what readers saw of a partition, so that what is done to it is found by
// what was acknowledged alone.
func (w *telling) unread(p int) { clear(w.h.part(p).seen) }

// renumber gives what stands in a partition offsets without holes.
func (w *telling) renumber(p int) {
	for i := range w.logs[p] {
		w.logs[p][i].Offset = int64(i)
	}
}

func TestTrueHistory(t *testing.T) {
	w := tell()
	if found := w.kinds(); len(found) > 0 {
		t.Errorf("found %v: %v", found, w.h.Found())
	}
	if n := w.h.Acked(2); n[0] != producers*each*9/10 || n[1] != n[0] {
		t.Errorf("acknowledged: %v", n)
	}
	if n := w.h.Stands("other", 1); n != int64(len(w.logs[1])/2) {
		t.Errorf("the other reader stands at %d", n)
	}
}

// TestFaultsAreFound does one thing to a true history at a time, and has the judge say
// that and nothing else. Numbers 9 and 29 were stored and not acknowledged.
func TestFaultsAreFound(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(w *telling)
		want  []Kind
	}{
		{"the end is lost", func(w *telling) {
			w.unread(0)
			w.write(0, 1, true, true)
			w.logs[0] = w.logs[0][:len(w.logs[0])-1]
		}, []Kind{Lost}},
		{"all is lost", func(w *telling) { w.unread(1); w.logs[1] = nil }, []Kind{Lost}},
		{"one is lost, and its place is empty", func(w *telling) {
			i := w.find(1, 2, 17)
			w.logs[1] = slices.Delete(w.logs[1], i, i+1)
		}, []Kind{Hole, Lost}},
		{"one is lost, and others take its place", func(w *telling) {
			w.unread(0)
			i := w.find(0, 0, 3)
			w.logs[0] = slices.Delete(w.logs[0], i, i+1)
			w.renumber(0)
		}, []Kind{Moved, Lost}},
		{"one whose fate was unknown is written again", func(w *telling) {
			w.logs[0] = append(w.logs[0], Stored{int64(len(w.logs[0])), Record{0, 2, 29}.Value()})
		}, []Kind{Duplicate}},
		{"an acknowledged one is written again", func(w *telling) {
			w.logs[0] = append(w.logs[0], Stored{int64(len(w.logs[0])), Record{0, 2, 5}.Value()})
		}, []Kind{Duplicate}},
		{"two whose fate was unknown change places", func(w *telling) {
			w.unread(1)
			a, b := w.find(1, 1, 9), w.find(1, 1, 29)
			w.logs[1][a].Value, w.logs[1][b].Value = w.logs[1][b].Value, w.logs[1][a].Value
		}, []Kind{Reordered}},
		{"an acknowledged one changes places with one of another producer", func(w *telling) {
			w.unread(1)
			a, b := w.find(1, 1, 12), w.find(1, 2, 12)
			w.logs[1][a].Value, w.logs[1][b].Value = w.logs[1][b].Value, w.logs[1][a].Value
		}, []Kind{Moved}},
		{"an offset was told wrong", func(w *telling) {
			r := w.h.Send(0, 0, w.now)
			w.logs[0] = append(w.logs[0], Stored{int64(len(w.logs[0])), r.Value()})
			w.h.Ack(r, int64(len(w.logs[0])), w.now)
		}, []Kind{Moved}},
		{"a bit changes before anybody reads it", func(w *telling) {
			w.unread(0)
			v := w.logs[0][w.find(0, 1, 7)].Value
			v[len(v)-1] ^= 0x10
		}, []Kind{Changed}},
		{"a bit changes after it was read", func(w *telling) {
			v := w.logs[0][w.find(0, 1, 7)].Value
			v[len(v)-1] ^= 0x10
		}, []Kind{Changed, Unstable}},
		{"what is no record", func(w *telling) {
			w.logs[1] = append(w.logs[1], Stored{int64(len(w.logs[1])), []byte("who am I?")})
		}, []Kind{Foreign}},
		{"a record that was not sent yet", func(w *telling) {
			w.logs[1] = append(w.logs[1], Stored{int64(len(w.logs[1])), Record{1, 2, each}.Value()})
		}, []Kind{Foreign}},
		{"a record of another partition", func(w *telling) {
			w.logs[1] = append(w.logs[1], Stored{int64(len(w.logs[1])), Record{0, 2, 5}.Value()})
		}, []Kind{Foreign}},
		{"a reader saw what is not there in the end", func(w *telling) {
			w.h.Read("one", 0, int64(len(w.logs[0])), []byte("not committed"))
			w.write(0, 0, true, true)
		}, []Kind{Unstable}},
		{"readers see what differs", func(w *telling) {
			w.h.Read("other", 1, int64(len(w.logs[1])/2), []byte("something else"))
		}, []Kind{Unstable}},
		{"a reader is not given one", func(w *telling) {
			s := w.logs[1][len(w.logs[1])/2+1]
			w.h.Read("other", 1, s.Offset, s.Value)
		}, []Kind{Hole}},
		{"a reader is given one again", func(w *telling) {
			s := w.logs[1][len(w.logs[1])-1]
			w.h.Read("one", 1, s.Offset, s.Value)
		}, []Kind{Hole}},
		{"a reader is refused", func(w *telling) {
			w.h.Refused("one", 1, errors.New("offset out of range"))
		}, []Kind{Refused}},
		{"nothing is acknowledged for long", func(w *telling) {
			w.now = w.now.Add(2 * time.Second)
			w.write(0, 0, true, true)
		}, []Kind{Gap}},
		{"nothing is acknowledged for longer than the fault allows", func(w *telling) {
			w.h.Period("a bad day", 3*time.Second, w.now.Add(time.Second))
			w.now = w.now.Add(4 * time.Second)
			w.write(0, 0, true, true)
		}, []Kind{Gap}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := tell()
			c.fault(w)
			if got := w.kinds(); !slices.Equal(got, slices.Sorted(slices.Values(c.want))) {
				t.Errorf("found %v, want %v: %v", got, c.want, w.h.Found())
			}
		})
	}
}

// TestWaitIsAllowed: a gap is judged by the most patient period that it reaches into.
func TestWaitIsAllowed(t *testing.T) {
	w := tell()
	w.h.Period("a bad day", 3*time.Second, w.now)
	w.h.Period("the day after", time.Second, w.now.Add(2*time.Second))
	w.now = w.now.Add(2500 * time.Millisecond)
	w.write(0, 0, true, true)
	w.write(1, 0, true, true)
	if found := w.kinds(); len(found) > 0 {
		t.Errorf("found %v: %v", found, w.h.Found())
	}
	if got, r := w.h.Longest(); got < 2500*time.Millisecond || r.Producer != 0 || r.Number != each {
		t.Errorf("the longest wait was %s, for %s", got, r)
	}
	w.h.Period("a day without hope", 0, w.now)
	w.now = w.now.Add(time.Hour)
	w.write(0, 0, true, true)
	w.write(1, 0, true, true)
	if found := w.kinds(); len(found) > 0 {
		t.Errorf("found %v: %v", found, w.h.Found())
	}
}

// TestOldest: who waits longest is known before anything is acknowledged, and whoever it is.
func TestOldest(t *testing.T) {
	h, at := New(), time.UnixMilli(1_000_000)
	if got := h.Oldest(); !got.IsZero() {
		t.Errorf("nobody waits since %v", got)
	}
	first, second := h.Send(0, 0, at), h.Send(1, 2, at.Add(1*time.Second))
	for _, step := range []struct {
		acked Record
		after time.Duration
		want  time.Duration // since at
	}{
		{second, 2 * time.Second, 0},
		{first, 3 * time.Second, 2 * time.Second},
		{h.Send(1, 2, at), 4 * time.Second, 3 * time.Second},
	} {
		h.Ack(step.acked, 0, at.Add(step.after))
		if got := h.Oldest().Sub(at); got != step.want {
			t.Errorf("after %v the oldest is %v, want %v", step.after, got, step.want)
		}
	}
}
