package group

import "time"

func (g *Group) heartbeat(e Heartbeat, now time.Time) {
	g.reply(e.To, Status{Err: g.beat(e, now)})
}

func (g *Group) beat(e Heartbeat, now time.Time) error {
	if g.deleting || g.state == Dead {
		return ErrGone
	}
	m, err := g.find(e.Member)
	switch {
	case err != nil:
		return err
	case e.Generation != g.generation:
		return ErrIllegalGeneration
	}
	g.touch(m, now)
	if g.state == PreparingRebalance {
		return ErrRebalanceInProgress
	}
	return nil
}

func (g *Group) leave(e Leave, now time.Time) {
	if g.deleting || g.state == Dead {
		g.reply(e.To, LeaveAnswer{Err: ErrGone})
		return
	}
	a := LeaveAnswer{Members: make([]error, len(e.Members))}
	for i, who := range e.Members {
		a.Members[i] = g.leaveOne(who, now)
	}
	g.reply(e.To, a)
}

// leaveOne removes a member. A static one may be named by its instance alone:
// so operators take out a client that will not come back.
func (g *Group) leaveOne(who Member, now time.Time) error {
	if who.InstanceID != "" && who.ID == "" {
		m := g.static[who.InstanceID]
		if m == nil {
			return ErrUnknownMember
		}
		g.remove(m, now)
		return nil
	}
	if who.InstanceID == "" && g.takePending(who.ID) {
		g.tryCompleteJoin(now)
		return nil
	}
	m, err := g.find(who)
	if err != nil {
		return err
	}
	g.remove(m, now)
	return nil
}
