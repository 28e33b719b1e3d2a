package cli

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

const (
	// electionWait is how long a command waits for partitions to have a leader: a
	// topic that was just made, or a broker that just came back, needs a second.
	electionWait  = 10 * time.Second
	electionRetry = 100 * time.Millisecond
)

// electing lists offsets, and again while a partition has no leader yet.
func electing(ctx context.Context, list func() (kadm.ListedOffsets, error)) (kadm.ListedOffsets, error) {
	deadline := time.Now().Add(electionWait)
	for {
		offsets, err := list()
		if err == nil {
			err = offsets.Error()
		}
		waits := errors.Is(err, kerr.LeaderNotAvailable) || errors.Is(err, kerr.NotLeaderForPartition)
		if !waits || time.Now().After(deadline) {
			return offsets, err
		}
		select {
		case <-ctx.Done():
			return offsets, err
		case <-time.After(electionRetry):
		}
	}
}
