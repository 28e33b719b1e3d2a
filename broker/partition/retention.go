package partition

import (
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/record"
)

// RetentionTarget tells where the log should start by now, for the leader to
// propose as KindTrim: whole segments whose records are all too old, or that are
// too much. The active segment goes with the rest once all its records are too old.
func (p *Partition) RetentionTarget(now time.Time) (model.Offset, bool) {
	if !p.config.Delete {
		return 0, false
	}
	to := p.logStart
	surplus := int64(-1)
	if p.config.RetentionBytes >= 0 {
		surplus = p.Bytes() - p.config.RetentionBytes
	}
	oldest := record.NoTimestamp
	if p.config.RetentionTime > 0 {
		oldest = now.Add(-p.config.RetentionTime).UnixMilli()
	}
	for i, s := range p.segments {
		m := s.Meta()
		expired := m.MaxTime != record.NoTimestamp && m.MaxTime < oldest
		excess := surplus >= m.Length && i < len(p.segments)-1
		if !expired && !excess || m.End > p.LSO() {
			break
		}
		surplus -= m.Length
		to = m.End
	}
	return to, to > p.logStart
}
