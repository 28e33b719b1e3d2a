package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/script"
)

// fitnessEvery is how often a node asks itself whether it should lead.
const fitnessEvery = 250 * time.Millisecond

// watchFitness tells the others when this node should not lead, and when it may again.
func (s *Server) watchFitness(ctx context.Context) {
	tick := time.NewTicker(fitnessEvery)
	defer tick.Stop()
	down := absence{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c := &s.cluster.Metadata().Cluster
			var u cluster.Unfit
			if s.pulse.judge(now, s.raft.Writing(), c.LeaderDiskLatency) {
				u |= cluster.UnfitDisk
			}
			side := s.scripts.service.Sidecar().State().State
			if away := down.of(now, side != script.SidecarUp); side == script.SidecarOff || away > c.LeaderSidecarDown {
				u |= cluster.UnfitScripts
			}
			was := s.cluster.Unfit(s.n.ID)
			if !s.cluster.SetUnfit(u) {
				continue
			}
			s.tellLeaders()
			if gone := was &^ u; gone != 0 {
				s.log.Info("this node may lead again", "was", unfitText(gone))
			}
			if come := u &^ was; come != 0 && side != script.SidecarOff {
				s.log.Warn("this node should not lead", "why", unfitText(come))
			}
		}
	}
}

// absence measures for how long something has been away, without a break.
type absence struct{ since time.Time }

func (a *absence) of(now time.Time, away bool) time.Duration {
	switch {
	case !away:
		a.since = time.Time{}
		return 0
	case a.since.IsZero():
		a.since = now
	}
	return now.Sub(a.since)
}

// unfits are the reasons why a node should not lead, as metrics and people have them.
var unfits = []struct {
	bit          cluster.Unfit
	reason, text string
}{
	{cluster.UnfitDisk, "disk", "its disk is slow"},
	{cluster.UnfitScripts, "scripts", "it has no sidecar to run scripts"},
}

func unfitText(u cluster.Unfit) string {
	var texts []string
	for _, f := range unfits {
		if u&f.bit != 0 {
			texts = append(texts, f.text)
		}
	}
	return strings.Join(texts, ", ")
}

// sampleUnfit is what metrics show: whether this node should not lead, by reason.
func (s *Server) sampleUnfit() map[string]bool {
	u := s.cluster.Unfit(s.n.ID)
	reasons := map[string]bool{"maintenance": s.cluster.Metadata().InMaintenance(s.n.ID)}
	for _, f := range unfits {
		reasons[f.reason] = u&f.bit != 0
	}
	return reasons
}

// unfitProblem says what is to be done of a node that should not lead; empty: nothing.
func unfitProblem(m *cluster.Metadata, n cluster.Node, u cluster.Unfit) string {
	if len(m.Scripted()) == 0 {
		u &^= cluster.UnfitScripts // nobody misses it
	}
	switch {
	case u&cluster.UnfitDisk != 0:
		return fmt.Sprintf("node %d gives its leadership away: its writes to the Raft log take longer than %s; look after its disk",
			n.ID, m.Cluster.LeaderDiskLatency)
	case u&cluster.UnfitScripts != 0:
		return fmt.Sprintf("node %d leads no topic that has scripts where another can: its sidecar is down or off; see its log", n.ID)
	}
	return ""
}
