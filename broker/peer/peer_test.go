package peer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/script"
)

// Each door gives the same, and asks the leader's verb for the same, here and from afar.
func TestSameAnswers(t *testing.T) {
	for v, door := range doors {
		t.Run(v.String(), func(t *testing.T) {
			r := newRig(t)
			own := r.own[1]
			own.offset = 77
			own.state = partition.SourceState{Activation: 1 << 61, Announced: 1<<61 + 1, Offset: 20, Known: true, Gap: 3, Verdicts: []model.Offset{11, 13}}
			own.read = script.ReadAnswer{LogStart: 5, HighWatermark: 50, Records: []byte("records")}
			here, err := door(t.Context(), r.led)
			if err != nil || r.calls != 0 {
				t.Fatalf("here: %v, after %d calls", err, r.calls)
			}
			asked := own.taken()
			afar, err := door(t.Context(), r.far)
			if err != nil || r.calls != 1 {
				t.Fatalf("from afar: %v, after %d calls", err, r.calls)
			}
			if here != afar {
				t.Errorf("here %s, from afar %s", here, afar)
			}
			if got := own.taken(); len(asked) != 1 || !slices.Equal(got, asked) {
				t.Errorf("the verb was asked\n%s\nand from afar\n%s", asked, got)
			}
			if got := r.own[2].taken(); len(got) != 0 {
				t.Errorf("the asking node's own verb was asked: %s", got)
			}
		})
	}
}

// Every sentinel that travels is found in the error on both sides, and no other.
func TestSameErrors(t *testing.T) {
	errs := []error{errors.New("something else"), fmt.Errorf("%w: %w", produce.ErrTimedOut, context.DeadlineExceeded)}
	for _, s := range sentinels {
		errs = append(errs, s.is, fmt.Errorf("on the way: %w: %w", s.is, errors.New("cause")))
	}
	for v, door := range doors {
		for _, exists := range []bool{false, true} {
			for _, failed := range errs {
				r := newRig(t)
				r.exists, r.own[1].err = exists, failed
				_, here := door(t.Context(), r.led)
				_, afar := door(t.Context(), r.far)
				if here == nil || afar == nil {
					t.Fatalf("%s failed with %q: %v here, %v from afar", v, failed, here, afar)
				}
				if a, b := matched(here), matched(afar); !slices.Equal(a, b) {
					t.Errorf("%s failed with %q: here %v, from afar %v", v, failed, a, b)
				}
				if !strings.Contains(afar.Error(), failed.Error()) {
					t.Errorf("%s failed with %q: from afar %q", v, failed, afar)
				}
				if !exists && !slices.Equal(matched(failed), matched(afar)) {
					t.Errorf("%s failed with %q: from afar %q", v, failed, afar)
				}
			}
		}
	}
}

// matched lists the codes of what errors.Is finds in err.
func matched(err error) []uint16 {
	if f := failureOf(err); f != nil {
		return f.Codes
	}
	return nil
}

func TestCodesAreUnique(t *testing.T) {
	seen := map[code]error{}
	for _, s := range sentinels {
		if old, twice := seen[s.code]; twice || s.code == 0 {
			t.Errorf("code %d is %q and %q", s.code, old, s.is)
		}
		seen[s.code] = s.is
	}
}

// A node without a replica must not say that a partition is gone: a fiber would go
// on without that child.
func TestUnknownHereIsNotGone(t *testing.T) {
	for v, door := range doors {
		unknown, want := produce.ErrUnknownPartition, produce.ErrNotLeader
		if v == verbRead || v == verbOffset {
			unknown, want = fetch.ErrUnknownPartition, fetch.ErrNotLeader
		}
		for _, leader := range []model.NodeID{model.NoNode, 2, 1} { // nobody, itself, one that has lost it
			r := newRig(t)
			r.leader, r.own[1].err, r.own[2].err = leader, unknown, unknown
			if _, err := door(t.Context(), r.far); !errors.Is(err, want) || errors.Is(err, unknown) {
				t.Errorf("%s, leader %d: %v", v, leader, err)
			}
			r.exists = false
			if _, err := door(t.Context(), r.far); !errors.Is(err, unknown) {
				t.Errorf("%s, leader %d, gone: %v", v, leader, err)
			}
		}
	}
}

func TestConflictCarriesItsState(t *testing.T) {
	r := newRig(t)
	r.own[1].children = map[model.PartitionID]partition.SourceState{
		somePartition: {Activation: 4, Announced: 5, Offset: 30, Known: true, Gap: 1, Verdicts: []model.Offset{8}},
	}
	state, err := r.far.AppendSource(t.Context(), somePartition, someSource(), nil)
	if !errors.Is(err, partition.ErrSourceConflict) || state.Offset != 30 || state.Announced != 5 || !slices.Equal(state.Verdicts, []model.Offset{8}) {
		t.Errorf("%+v, %v", state, err)
	}
}

// Both nodes take the other for the leader: each call ends at the other.
func TestNobodyPassesOn(t *testing.T) {
	for v, door := range doors {
		r := newRig(t)
		r.own[1].err, r.own[2].err = produce.ErrNotLeader, produce.ErrNotLeader
		two := r.nodes[1]
		two.o.Leader = func(model.PartitionID) (model.NodeID, model.LeaderEpoch) { return 2, 4 }
		if _, err := door(t.Context(), r.far); !errors.Is(err, produce.ErrNotLeader) || r.calls != 1 {
			t.Errorf("%s: %v after %d calls", v, err, r.calls)
		}
	}
}

// What the caller is told when the network or the peer fails, and whether the
// verb was asked.
func TestFailedCalls(t *testing.T) {
	ways := map[string]struct {
		do      func(body []byte, answer func() ([]byte, error)) ([]byte, error)
		asked   bool
		refused bool
		text    string
	}{
		"call lost":   {func([]byte, func() ([]byte, error)) ([]byte, error) { return nil, errReset }, false, false, "reset"},
		"answer lost": {func(_ []byte, answer func() ([]byte, error)) ([]byte, error) { answer(); return nil, errReset }, true, false, "reset"},
		"answer damaged": {func(_ []byte, answer func() ([]byte, error)) ([]byte, error) {
			b, err := answer()
			b[prefixBytes] = 'x'
			return b, err
		}, true, false, ErrMalformed.Error()},
		"call damaged": {func(body []byte, answer func() ([]byte, error)) ([]byte, error) {
			body[prefixBytes] = 'x'
			return answer()
		}, false, true, ErrMalformed.Error()},
		"another version": {func(body []byte, answer func() ([]byte, error)) ([]byte, error) {
			body[0]++
			return answer()
		}, false, true, ErrVersion.Error()},
		"refused": {func([]byte, func() ([]byte, error)) ([]byte, error) {
			return nil, fmt.Errorf("wrapped: %w", &Refusal{Code: 2, Text: "too many calls"})
		}, false, true, "too many calls"},
	}
	for name, way := range ways {
		for v, door := range doors {
			r := newRig(t)
			r.do = way.do
			_, err := door(t.Context(), r.far)
			want := produce.ErrNotLeader
			switch {
			case v == verbRead || v == verbOffset:
				want = fetch.ErrNotLeader
			case v != verbSource && !way.refused:
				want = produce.ErrTimedOut
			}
			if !errors.Is(err, want) || !strings.Contains(err.Error(), way.text) {
				t.Errorf("%s of %s: %v", name, v, err)
			}
			if errors.Is(err, produce.ErrNotLeader) && errors.Is(err, produce.ErrTimedOut) {
				t.Errorf("%s of %s is surely not written and unknown at once: %v", name, v, err)
			}
			if asked := len(r.own[1].taken()) > 0; asked != way.asked {
				t.Errorf("%s of %s: the verb was asked: %v", name, v, asked)
			}
		}
	}
}

// A fiber that lost an answer asks the child, and then knows.
func TestLostAppendIsFoundBySource(t *testing.T) {
	for _, executed := range []bool{false, true} {
		r := newRig(t)
		own := r.own[1]
		src := someSource()
		own.children = map[model.PartitionID]partition.SourceState{somePartition: {Activation: src.Activation, Offset: src.From, Known: true}}
		r.do = func(_ []byte, answer func() ([]byte, error)) ([]byte, error) {
			if executed {
				answer()
			}
			return nil, errReset
		}
		if _, err := r.far.AppendSource(t.Context(), somePartition, src, [][]byte{[]byte("one")}); !errors.Is(err, produce.ErrTimedOut) {
			t.Fatalf("executed %v: %v", executed, err)
		}
		r.do = nil
		state, err := r.far.Source(t.Context(), somePartition, someKey)
		if err != nil || executed != (state.Offset == src.To) || executed == (state.Offset == src.From) {
			t.Errorf("executed %v: %+v, %v", executed, state, err)
		}
		// It may also not ask, or the first may arrive late: one of the two is taken.
		state, err = r.far.AppendSource(t.Context(), somePartition, src, [][]byte{[]byte("one")})
		if errors.Is(err, partition.ErrSourceConflict) != executed || state.Offset != src.To || len(own.applied) != 1 {
			t.Errorf("executed %v: again %+v, %v; taken %q", executed, state, err, own.applied)
		}
	}
}

func TestReadWaits(t *testing.T) {
	read := func(ctx context.Context, r *rig, wait time.Duration) (time.Duration, error) {
		began := time.Now()
		_, err := r.far.Read(ctx, somePartition, 0, 100, wait)
		return time.Since(began), err
	}
	bubble := func(name string, do func(t *testing.T, r *rig)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.own[1].waits = true
				do(t, r)
			})
		})
	}
	bubble("its time", func(t *testing.T, r *rig) {
		if took, err := read(t.Context(), r, 30*time.Second); took != 30*time.Second || err != nil {
			t.Errorf("%s, %v", took, err)
		}
	})
	bubble("not longer than a minute", func(t *testing.T, r *rig) {
		if took, err := read(t.Context(), r, time.Hour); took != waitMax || err != nil {
			t.Errorf("%s, %v", took, err)
		}
	})
	bubble("until its caller is gone", func(t *testing.T, r *rig) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if took, _ := read(ctx, r, 30*time.Second); took != time.Second || !slices.Contains(r.own[1].taken(), "gone") {
			t.Errorf("%s", took)
		}
	})
	bubble("a caller's deadline goes with it", func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		r.far.o.Call = func(_ context.Context, _ model.NodeID, body []byte) ([]byte, error) {
			return r.led.Answer(context.Background(), 2, body)
		}
		if took, _ := read(ctx, r, 30*time.Second); took != 2*time.Second || !slices.Contains(r.own[1].taken(), "gone") {
			t.Errorf("%s", took)
		}
	})
	bubble("no answer ever", func(t *testing.T, r *rig) {
		r.far.o.Call = func(ctx context.Context, _ model.NodeID, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if took, err := read(t.Context(), r, 30*time.Second); took != 30*time.Second+answerWait || !errors.Is(err, fetch.ErrNotLeader) {
			t.Errorf("%s, %v", took, err)
		}
		began := time.Now()
		if _, err := doors[verbAppendSource](t.Context(), r.far); time.Since(began) != answerWait || !errors.Is(err, produce.ErrTimedOut) {
			t.Errorf("%s, %v", time.Since(began), err)
		}
	})
}

func TestBodiesOverTheLimit(t *testing.T) {
	limit := fmt.Sprint(bodyBytesMin)
	t.Run("call", func(t *testing.T) {
		r := newRig(t)
		half := make([]byte, bodyBytesMin/2)
		_, err := r.far.AppendSource(t.Context(), somePartition, someSource(), [][]byte{half, half})
		if !errors.Is(err, ErrBodyTooLarge) || !errors.Is(err, produce.ErrTooLarge) || !strings.Contains(err.Error(), limit) || r.calls != 0 {
			t.Errorf("%v after %d calls", err, r.calls)
		}
		if _, err := r.far.AppendSource(t.Context(), somePartition, someSource(), [][]byte{half}); err != nil {
			t.Errorf("half of it: %v", err)
		}
	})
	t.Run("answer", func(t *testing.T) {
		r := newRig(t)
		r.own[1].read = script.ReadAnswer{LogStart: 1, HighWatermark: 9, Records: make([]byte, bodyBytesMin)}
		a, err := r.far.Read(t.Context(), somePartition, 0, 1, 0)
		if !errors.Is(err, ErrBodyTooLarge) || !strings.Contains(err.Error(), limit) || a.Records != nil || a.HighWatermark != 9 {
			t.Errorf("%+v, %v", a.HighWatermark, err)
		}
	})
	t.Run("a read asks for no more", func(t *testing.T) {
		r := newRig(t)
		if _, err := r.far.Read(t.Context(), somePartition, 0, 1<<30, 0); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("read %s 0 %d 0s", somePartition, bodyBytesMin-headerRoom)
		if got := r.own[1].taken(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s, want %s", got, want)
		}
		r.own[1].read.Records = make([]byte, bodyBytesMin-headerRoom)
		if _, err := r.far.Read(t.Context(), somePartition, 0, 1<<30, 0); err != nil {
			t.Error(err)
		}
	})
	t.Run("the largest state", func(t *testing.T) {
		r := newRig(t)
		for i := range model.Offset(1 << 12) {
			r.own[1].state.Verdicts = append(r.own[1].state.Verdicts, model.OffsetMax-i)
		}
		r.own[1].err = errors.New(strings.Repeat("\x01", textBytesMax))
		if state, err := r.far.Source(t.Context(), somePartition, someKey); errors.Is(err, ErrBodyTooLarge) || len(state.Verdicts) != 1<<12 {
			t.Errorf("%d, %v", len(state.Verdicts), err)
		}
	})
}

func TestTextIsBounded(t *testing.T) {
	r := newRig(t)
	r.own[1].err = fmt.Errorf("%s: %w", strings.Repeat("ä", textBytesMax), produce.ErrStorage)
	_, err := doors[verbAppend](t.Context(), r.far)
	if !errors.Is(err, produce.ErrStorage) || len(err.Error()) > textBytesMax+100 || strings.Contains(err.Error(), "�") {
		t.Errorf("%d bytes", len(err.Error()))
	}
}
