package partition

import (
	"slices"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/segment"
)

// TimestampMax asks FindTime for the record with the largest timestamp.
const TimestampMax int64 = -3

// TimeFinder looks up an offset by time in pinned segments. Run or Release it,
// once, on any goroutine.
type TimeFinder struct {
	ms          int64
	from        model.Offset
	inflatedMax int
	views       []*segment.View
}

// FindTime prepares the search for the first record whose timestamp is ms
// (milliseconds) or more, or for the largest timestamp (TimestampMax).
func (p *Partition) FindTime(ms int64) *TimeFinder {
	f := &TimeFinder{ms: ms, from: p.logStart, inflatedMax: p.config.InflatedMax}
	if ms == TimestampMax {
		for _, s := range p.segments {
			f.ms = max(f.ms, s.Meta().MaxTime)
		}
	}
	for _, s := range p.segments {
		if m := s.Meta(); m.MaxTime >= f.ms {
			if len(f.views) == 0 {
				p.hold(s) // it is nearly always found in the first
			}
			f.views = append(f.views, s.Pin())
		}
	}
	return f
}

// Run searches and releases. found is false when no record is that young.
func (f *TimeFinder) Run() (offset model.Offset, timestamp int64, epoch model.LeaderEpoch, found bool, err error) {
	defer f.Release()
	for _, v := range f.views {
		r, ok, err := v.FindTime(f.ms, f.from, f.inflatedMax)
		if err != nil {
			return model.NoOffset, -1, model.NoEpoch, false, err
		}
		if ok {
			return r.Offset, r.Timestamp, r.Epoch, true, nil
		}
	}
	return model.NoOffset, -1, model.NoEpoch, false, nil
}

// Release lets go of the segments. A second call does nothing.
func (f *TimeFinder) Release() {
	for _, v := range f.views {
		_ = v.Release() // as ReadAnswer.Release
	}
	f.views = slices.Delete(f.views, 0, len(f.views))
}
