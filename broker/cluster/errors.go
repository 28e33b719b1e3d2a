package cluster

import (
	"errors"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
)

// Refusals, as the rooms below found them. Every error of a mutation wraps one
// of these, or the proposer's own error: then the outcome is unknown.
var (
	ErrTopicExists        = controller.ErrTopicExists
	ErrUnknownTopic       = controller.ErrUnknownTopic
	ErrTopicName          = controller.ErrTopicName
	ErrInvalidPartitions  = controller.ErrInvalidPartitions
	ErrInvalidReplication = controller.ErrInvalidReplication
	ErrInvalidAssignment  = controller.ErrInvalidAssignment
	ErrInternalTopic      = controller.ErrInternalTopic
	ErrConflict           = controller.ErrConflict
	ErrInvalidScript      = controller.ErrInvalidScript
	ErrUnknownScript      = controller.ErrUnknownScript
	ErrScriptRemoving     = controller.ErrScriptRemoving
	ErrCycle              = controller.ErrCycle
	ErrTooManyScripts     = controller.ErrTooManyScripts
	ErrInvalidNode        = controller.ErrInvalidNode
	ErrNodeGone           = controller.ErrNodeGone
	ErrUnknownPartition   = controller.ErrUnknownPartition
	ErrUnchanged          = controller.ErrUnchanged
	ErrNoReassignment     = controller.ErrNoReassignment
	ErrFeatureLevel       = controller.ErrFeatureLevel
	ErrOldBuild           = controller.ErrOldBuild
	ErrNodeState          = controller.ErrNodeState

	ErrInvalidConfig = config.ErrInvalid // a value that the setting cannot have
	ErrUnknownConfig = config.ErrUnknown // no such setting
)

// ErrDuplicate says that one request names a topic twice. Name it once.
var ErrDuplicate = errors.New("named twice in one request")
