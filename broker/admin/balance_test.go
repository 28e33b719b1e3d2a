package admin

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/model"
)

func (f *fake) Balance(context.Context) (api.Balance, error) {
	return api.Balance{State: api.BalancePaused, Planned: []api.BalanceMove{{Topic: "t", To: []model.NodeID{1}, Bytes: 7, Why: "why"}}}, f.fail
}

func (f *fake) PauseBalance(_ context.Context, paused bool) error {
	if paused {
		return f.note("pause", "balance")
	}
	return f.note("resume", "balance")
}

func TestBalanceMakesTheRoundTrip(t *testing.T) {
	f, c, _ := dial(t)
	ctx := t.Context()
	if b, err := c.Balance(ctx); err != nil || b.State != "paused" || len(b.Planned) != 1 || b.Planned[0].To[0] != 1 || b.Planned[0].Bytes != 7 {
		t.Errorf("%+v, %v", b, err)
	}
	if err := errors.Join(c.PauseBalance(ctx), c.ResumeBalance(ctx)); err != nil || strings.Join(f.calls, ",") != "pause balance,resume balance" {
		t.Errorf("%v, %v", f.calls, err)
	}
	f.fail = api.ErrUnavailable
	if err := c.PauseBalance(ctx); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("while there is no controller: %v", err)
	}
}
