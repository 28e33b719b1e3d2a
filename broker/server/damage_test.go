package server

import (
	"io"
	"log/slog"
	"testing"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
)

func TestDamages(t *testing.T) {
	d := newDamages(slog.New(slog.NewTextHandler(io.Discard, nil)), func(string) {})
	id, other := model.PartitionID{Index: 1}, model.PartitionID{Index: 2}
	early := partition.Damage{File: "a.log", Pos: 32, First: 0, Last: 9}
	late := partition.Damage{File: "b.log", Pos: 64, First: 20, Last: 20}
	for i, want := range []bool{true, true, false} {
		if news := d.add(id, []partition.Damage{early, late, early}[i]); news != want {
			t.Errorf("add %d is news: %v", i, news)
		}
	}
	at := func(o model.Offset) func() model.Offset { return func() model.Offset { return o } }
	if got := d.of(id, at(9)); len(got) != 2 {
		t.Errorf("from 9: %v, want both", got)
	}
	if got := d.of(id, at(10)); len(got) != 1 || got[0] != late {
		t.Errorf("from 10: %v, want the late one: the early one was trimmed", got)
	}
	if got := d.of(other, at(0)); got != nil {
		t.Errorf("of another partition: %v", got)
	}
	for i := range 2 * damagesMax {
		d.add(id, partition.Damage{File: "c.log", Pos: int64(i), Last: 99})
	}
	if got := d.of(id, at(0)); len(got) != damagesMax {
		t.Errorf("%d are remembered, the bound is %d", len(got), damagesMax)
	}
	d.forget(id)
	if got := d.of(id, at(0)); got != nil {
		t.Errorf("forgotten, yet %v", got)
	}
}
