package kafka

import (
	"context"
	"errors"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/fetch"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/millrace-io/millrace/broker/partition"
	"github.com/millrace-io/millrace/broker/produce"
	"github.com/millrace-io/millrace/broker/record"
)

// Kafka's error codes, those that this broker answers.
const (
	codeNone                     int16 = 0
	codeUnknownServerError       int16 = -1
	codeOffsetOutOfRange         int16 = 1
	codeCorruptMessage           int16 = 2
	codeUnknownTopicOrPartition  int16 = 3
	codeLeaderNotAvailable       int16 = 5
	codeNotLeaderOrFollower      int16 = 6
	codeRequestTimedOut          int16 = 7
	codeMessageTooLarge          int16 = 10
	codeInvalidTopic             int16 = 17
	codeNotEnoughReplicas        int16 = 19
	codeNotEnoughAfterAppend     int16 = 20
	codeInvalidRequiredAcks      int16 = 21
	codeInvalidTimestamp         int16 = 32
	codeUnsupportedVersion       int16 = 35
	codeTopicAlreadyExists       int16 = 36
	codeInvalidPartitions        int16 = 37
	codeInvalidReplicationFactor int16 = 38
	codeInvalidReplicaAssignment int16 = 39
	codeInvalidConfig            int16 = 40
	codeInvalidRequest           int16 = 42
	codeUnsupportedForFormat     int16 = 43
	codePolicyViolation          int16 = 44
	codeOutOfOrderSequence       int16 = 45
	codeDuplicateSequence        int16 = 46
	codeInvalidProducerEpoch     int16 = 47
	codeTransactionalIDDenied    int16 = 53
	codeStorageError             int16 = 56
	codeUnknownProducerID        int16 = 59
	codeListenerNotFound         int16 = 72
	codeFetchSessionIDNotFound   int16 = 70
	codeInvalidFetchSessionEpoch int16 = 71
	codeTopicDeletionDisabled    int16 = 73
	codeFencedLeaderEpoch        int16 = 74
	codeUnknownLeaderEpoch       int16 = 75
	codeUnsupportedCompression   int16 = 76
	codeOffsetNotAvailable       int16 = 78
	codePreferredLeader          int16 = 80
	codeNoEligibleLeader         int16 = 83
	codeElectionNotNeeded        int16 = 84
	codeNoReassignment           int16 = 85
	codeInvalidRecord            int16 = 87
	codeUnknownTopicID           int16 = 100
	codeInconsistentTopicID      int16 = 103
	codeFetchSessionTopicID      int16 = 106
	codeMismatchedEndpoint       int16 = 114
	codeUnsupportedEndpoint      int16 = 115
)

// codes translate the sentinels of the rooms below, first match first.
var codes = []struct {
	err  error
	code int16
}{
	{produce.ErrNotLeader, codeNotLeaderOrFollower},
	{errUnknownPartition, codeUnknownTopicOrPartition},
	{produce.ErrUnknownPartition, codeNotLeaderOrFollower}, // see place
	{produce.ErrTimedOut, codeRequestTimedOut},
	{produce.ErrTooLarge, codeMessageTooLarge},
	{produce.ErrInvalidTimestamp, codeInvalidTimestamp},
	{record.ErrCRC, codeCorruptMessage},
	{record.ErrShort, codeCorruptMessage},
	{record.ErrMagic, codeUnsupportedForFormat},
	{record.ErrCodec, codeUnsupportedCompression},
	{record.ErrInflated, codeInvalidRecord},
	{record.ErrMalformed, codeInvalidRecord},
	{produce.ErrInvalidRecord, codeInvalidRecord},
	{produce.ErrStorage, codeStorageError},
	{produce.ErrNotEnoughReplicas, codeNotEnoughReplicas},
	{produce.ErrNotEnoughAfterAppend, codeNotEnoughAfterAppend},
	// Retriable, known to the oldest clients, and not a reason to ask for another leader.
	{produce.ErrScriptUnavailable, codeNotEnoughReplicas},
	{produce.ErrScriptFailed, codeInvalidRecord},
	{partition.ErrStaleEpoch, codeNotLeaderOrFollower},
	{partition.ErrOutOfOrderSequence, codeOutOfOrderSequence},
	{partition.ErrDuplicateSequence, codeDuplicateSequence},
	{partition.ErrProducerFenced, codeInvalidProducerEpoch},
	{partition.ErrUnknownProducer, codeUnknownProducerID},
	{partition.ErrMalformedBatch, codeInvalidRecord},

	{fetch.ErrNotLeader, codeNotLeaderOrFollower},
	{fetch.ErrUnknownPartition, codeNotLeaderOrFollower}, // see place
	{fetch.ErrOffsetOutOfRange, codeOffsetOutOfRange},
	{partition.ErrOffsetOutOfRange, codeOffsetOutOfRange},
	{fetch.ErrFencedEpoch, codeFencedLeaderEpoch},
	{fetch.ErrUnknownEpoch, codeUnknownLeaderEpoch},
	{fetch.ErrOffsetNotAvailable, codeOffsetNotAvailable},
	{partition.ErrCorrupt, codeCorruptMessage},
	{partition.ErrClosed, codeNotLeaderOrFollower},
	{partition.ErrReplaced, codeNotLeaderOrFollower},

	{fetch.ErrSessionUnknown, codeFetchSessionIDNotFound},
	{fetch.ErrSessionEpoch, codeInvalidFetchSessionEpoch},
	{fetch.ErrSessionTopicIDs, codeFetchSessionTopicID},
	{errUnknownTopicID, codeUnknownTopicID},
	{errOldProduce, codeUnsupportedVersion},
	{errAcks, codeInvalidRequiredAcks},
	{errTransactional, codeTransactionalIDDenied},
	{errInternal, codeInvalidTopic},
	{errControl, codeInvalidRecord},
	{errTimestamp, codeUnsupportedVersion},
	{errAskedTwice, codeInvalidRequest},
	{errNegativeOffset, codeOffsetOutOfRange},
	{errTooManyTopics, codePolicyViolation},
	{errBoth, codeInvalidRequest},
	{errDeletionDisabled, codeTopicDeletionDisabled},
	{errNameOrID, codeInvalidRequest},
	{errNotDeletable, codePolicyViolation},
	{errResourceType, codeInvalidRequest},
	{errResourceName, codeInvalidRequest},
	{errNullValue, codeInvalidRequest},
	{errNamedTwice, codeInvalidRequest},
	{errEndpointMismatch, codeMismatchedEndpoint},
	{errEndpoint, codeUnsupportedEndpoint},
	{errElectionNotNeeded, codeElectionNotNeeded},
	{errPreferredLeader, codePreferredLeader},
	{errNoEligibleLeader, codeNoEligibleLeader},
	{errElectionType, codeInvalidRequest},
	{cluster.ErrTopicExists, codeTopicAlreadyExists},
	{cluster.ErrUnknownTopic, codeUnknownTopicOrPartition},
	{cluster.ErrTopicName, codeInvalidTopic},
	{cluster.ErrInternalTopic, codeInvalidTopic},
	{cluster.ErrInvalidPartitions, codeInvalidPartitions},
	{cluster.ErrInvalidReplication, codeInvalidReplicationFactor},
	{cluster.ErrInvalidAssignment, codeInvalidReplicaAssignment},
	{cluster.ErrInvalidConfig, codeInvalidConfig},
	{cluster.ErrUnknownConfig, codeInvalidConfig},
	{cluster.ErrDuplicate, codeInvalidRequest},
	{cluster.ErrUnknownPartition, codeUnknownTopicOrPartition},
	{cluster.ErrNoReassignment, codeNoReassignment},
	{cluster.ErrFeatureLevel, codeUnsupportedVersion},
	{cluster.ErrConflict, codeRequestTimedOut}, // others changed it all the time; trying again is right
	{model.ErrTopicName, codeInvalidTopic},

	{context.DeadlineExceeded, codeRequestTimedOut},
	{context.Canceled, codeRequestTimedOut},
}

// errUnknownTopicID says that a request names a topic by an id that is not here.
var errUnknownTopicID = errors.New("unknown topic id")

// code gives Kafka's code of err; what nobody declared is UNKNOWN_SERVER_ERROR.
func code(err error) int16 {
	if err == nil {
		return codeNone
	}
	for i := range codes {
		if errors.Is(err, codes[i].err) {
			return codes[i].code
		}
	}
	return codeUnknownServerError
}

// codeOfProduce is code for a produce, which clients repeat on
// UNKNOWN_SERVER_ERROR, so that a record may be there twice. What is not known
// to be unwritten has timed out.
func codeOfProduce(err error) int16 {
	if c := code(err); c != codeUnknownServerError {
		return c
	}
	return codeRequestTimedOut
}

// codeOfAdmin is code for a change of the cluster: an error that nobody declared
// is the proposer's, and the outcome is unknown.
func codeOfAdmin(err error) int16 { return codeOfProduce(err) }

// text gives what a client may read of err, nil for none.
func text(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	return &s
}
