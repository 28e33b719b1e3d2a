package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/controller"
	"github.com/millrace-io/millrace/broker/model"
)

// CreateTopic asks for a topic. Assignments, when given, holds the replicas of
// partitions 0..n-1 and replaces Partitions and Replication.
type CreateTopic struct {
	Name        string
	Internal    bool  // made by the broker itself
	Partitions  int32 // -1: the cluster's default
	Replication int16 // -1: the cluster's default
	Assignments map[int32][]model.NodeID
	Configs     map[string]*string // nil: the default
}

// TopicResult is the outcome for one topic.
type TopicResult struct {
	Name  string
	ID    model.TopicID
	Topic *Topic // as it is, or would be, after the change; nil when Err is set
	Err   error
}

// CreatePartitions asks that a topic have Count partitions. Assignments, when
// given, holds the replicas of each added one.
type CreatePartitions struct {
	Name        string
	Count       int32
	Assignments [][]model.NodeID
}

// TopicRef names a topic to delete, by id when that is set.
type TopicRef struct {
	Name string
	ID   model.TopicID
}

// Names of the topics that the broker keeps for itself.
const (
	TopicOffsets   = "__consumer_offsets"
	TopicTxns      = "__transaction_state"
	TopicScripts   = "__scripts"
	TopicPacemaker = "__pacemaker"
)

var reserved = []string{TopicOffsets, TopicTxns, TopicScripts, TopicPacemaker}

// IsInternal tells whether name is reserved for the broker, topic or not.
func IsInternal(name string) bool { return slices.Contains(reserved, name) }

// CreateTopics creates each topic on its own, the results in the asked order.
// The error, if any, is of the whole: its outcome is unknown unless it wraps
// one of this room's sentinels. With validateOnly nothing is created.
func (c *Cluster) CreateTopics(ctx context.Context, asks []CreateTopic, validateOnly bool) ([]TopicResult, error) {
	m := c.Metadata()
	results := make([]TopicResult, len(asks))
	var news []controller.NewTopic
	var at []int // place in results of each of news
	for i, ask := range asks {
		results[i].Name = ask.Name
		n, err := m.newTopic(ask)
		if duplicates(asks, ask.Name) {
			err = fmt.Errorf("%w: topic %q", ErrDuplicate, ask.Name)
		}
		if err != nil {
			results[i].Err = err
			continue
		}
		news, at = append(news, n), append(at, i)
	}
	if len(news) == 0 {
		return results, nil
	}
	r, err := c.propose(ctx, controller.Command{CreateTopics: &controller.CreateTopics{Topics: news, DryRun: validateOnly}})
	if err != nil {
		return nil, err
	}
	c.fill(results, at, r.Topics)
	return results, nil
}

func duplicates(asks []CreateTopic, name string) bool {
	n := 0
	for i := range asks {
		if asks[i].Name == name {
			n++
		}
	}
	return n > 1
}

// fill takes the controller's answers into the results at the places given.
func (c *Cluster) fill(results []TopicResult, at []int, answers []controller.TopicResult) {
	m := c.Metadata()
	must(len(answers) == len(at), "%d topics were asked, %d answered", len(at), len(answers))
	for i, a := range answers {
		r := &results[at[i]]
		if r.Err = a.Refused.Err(); r.Err != nil || a.Topic == nil {
			continue
		}
		r.Name, r.ID, r.Topic = a.Topic.Name, a.Topic.ID, m.resolved(a.Topic)
	}
}

// resolved gives a topic's record with its settings as m resolves them.
func (m *Metadata) resolved(t *controller.Topic) *Topic {
	if known, ok := m.byID[t.ID]; ok && known.Revision == t.Revision {
		return known
	}
	settings, err := config.ResolveTopic(t.Overrides, m.effective)
	if err != nil { // of another version; the state machine logs it
		settings, err = config.ResolveTopic(nil, nil)
		must(err == nil, "the defaults do not resolve: %v", err)
	}
	return &Topic{
		Name: t.Name, ID: t.ID, Internal: t.Internal, Partitions: t.Partitions, Overrides: t.Overrides,
		Revision: t.Revision, MadeFor: t.MadeFor, Config: settings, record: t,
	}
}

// newTopic checks what depends on settings and fills the defaults in.
func (m *Metadata) newTopic(ask CreateTopic) (controller.NewTopic, error) {
	n := controller.NewTopic{Name: ask.Name, Internal: ask.Internal, Partitions: ask.Partitions, Replication: ask.Replication}
	if err := model.CheckTopicName(ask.Name); err != nil {
		return n, err
	}
	if IsInternal(ask.Name) && !ask.Internal {
		return n, fmt.Errorf("%w: %q is made by the broker", ErrInternalTopic, ask.Name)
	}
	if len(ask.Assignments) > 0 {
		rows, err := assignmentRows(ask)
		if err != nil {
			return n, err
		}
		n.Assignments, n.Partitions, n.Replication = rows, int32(len(rows)), int16(len(rows[0]))
	}
	if n.Partitions == -1 {
		n.Partitions = m.Cluster.Partitions
	}
	if n.Replication == -1 {
		n.Replication = m.defaultReplication(ask.Internal)
	}
	if err := m.checkPartitions(ask.Name, n.Partitions); err != nil {
		return n, err
	}
	for name, value := range ask.Configs {
		if value == nil {
			if _, err := config.Lookup(config.ScopeTopic, name); err != nil {
				return n, fmt.Errorf("topic %q: %w", ask.Name, err)
			}
			continue
		}
		if n.Overrides == nil {
			n.Overrides = map[string]string{}
		}
		n.Overrides[name] = *value
	}
	if err := config.CheckTopicTogether(n.Overrides, m.effective); err != nil {
		return n, fmt.Errorf("topic %q: %w", ask.Name, err)
	}
	return n, nil
}

// defaultReplication of an internal topic is as large as the nodes allow.
func (m *Metadata) defaultReplication(internal bool) int16 {
	if internal {
		return max(1, min(m.Cluster.OffsetsReplication, int16(len(m.Nodes))))
	}
	return m.Cluster.Replication
}

func (m *Metadata) checkPartitions(topic string, count int32) error {
	if count < 1 || count > m.Cluster.TopicPartitionsMax {
		return fmt.Errorf("%w: topic %q asks for %d, 1 to %d may be (millrace.topic.partitions.max)", ErrInvalidPartitions, topic, count, m.Cluster.TopicPartitionsMax)
	}
	return nil
}

// assignmentRows gives the assignments in order of partition.
func assignmentRows(ask CreateTopic) ([][]model.NodeID, error) {
	// Clients send -1 for both when they assign replicas; some send the count.
	if ask.Partitions != -1 && int(ask.Partitions) != len(ask.Assignments) {
		return nil, fmt.Errorf("%w: topic %q asks for %d partitions and assigns %d", ErrInvalidAssignment, ask.Name, ask.Partitions, len(ask.Assignments))
	}
	rows := make([][]model.NodeID, len(ask.Assignments))
	for i := range rows {
		row, ok := ask.Assignments[int32(i)]
		if !ok || len(row) == 0 {
			return nil, fmt.Errorf("%w: topic %q assigns no replicas to partition %d", ErrInvalidAssignment, ask.Name, i)
		}
		rows[i] = row
	}
	return rows, nil
}

// DeleteTopics deletes each topic on its own, the results in the asked order.
func (c *Cluster) DeleteTopics(ctx context.Context, refs []TopicRef) ([]TopicResult, error) {
	m := c.Metadata()
	results := make([]TopicResult, len(refs))
	var ids []model.TopicID
	var at []int
	for i, ref := range refs {
		results[i].Name, results[i].ID = ref.Name, ref.ID
		t, ok := m.find(ref)
		switch {
		case !ok:
			results[i].Err = fmt.Errorf("%w: %s", ErrUnknownTopic, ref)
			continue
		case slices.Contains(ids, t.ID):
			results[i].Err = fmt.Errorf("%w: topic %q", ErrDuplicate, t.Name)
			continue
		}
		results[i].Name, results[i].ID = t.Name, t.ID
		ids, at = append(ids, t.ID), append(at, i)
	}
	if len(ids) == 0 {
		return results, nil
	}
	r, err := c.propose(ctx, controller.Command{DeleteTopics: &controller.DeleteTopics{IDs: ids}})
	if err != nil {
		return nil, err
	}
	c.fill(results, at, r.Topics)
	return results, nil
}

// String gives the name, or the id.
func (r TopicRef) String() string {
	if r.ID.IsZero() {
		return fmt.Sprintf("%q", r.Name)
	}
	return "id " + r.ID.String()
}

func (m *Metadata) find(ref TopicRef) (*Topic, bool) {
	if ref.ID.IsZero() {
		return m.Topic(ref.Name)
	}
	return m.TopicByID(ref.ID)
}

// CreatePartitions grows a topic, and the children that scripts made for it.
func (c *Cluster) CreatePartitions(ctx context.Context, ask CreatePartitions, validateOnly bool) (*Topic, error) {
	m := c.Metadata()
	t, ok := m.Topic(ask.Name)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrUnknownTopic, ask.Name)
	}
	if err := m.checkPartitions(ask.Name, ask.Count); err != nil {
		return nil, err
	}
	r, err := c.propose(ctx, controller.Command{CreatePartitions: &controller.CreatePartitions{
		ID: t.ID, Count: ask.Count, Assignments: ask.Assignments, DryRun: validateOnly,
	}})
	if err != nil {
		return nil, err
	}
	return c.Metadata().resolved(r.Topics[0].Topic), nil
}

// RegisterNode enters this node, or its new addresses; it is of this build unless it
// says another level. clusterID is the name
// that a cluster without one takes; the answer is the cluster's. It may be repeated.
func (c *Cluster) RegisterNode(ctx context.Context, n Node, clusterID string) (string, error) {
	if n.Level == 0 {
		n.Level = controller.LevelBuild
	}
	r, err := c.propose(ctx, controller.Command{RegisterNode: &controller.RegisterNode{Node: n, ClusterID: clusterID, Founders: c.o.Founders}})
	return r.ClusterID, err
}

// producersPerBlock is how many producer ids a node takes at once.
const producersPerBlock = 1000

// ProducerIDs takes a block of ids that nobody else gets.
func (c *Cluster) ProducerIDs(ctx context.Context) (first model.ProducerID, count int64, err error) {
	r, err := c.propose(ctx, controller.Command{AllocateProducers: &controller.AllocateProducers{Count: producersPerBlock}})
	return r.FirstID, r.Count, err
}

// propose sends a command with its time and seed and gives its result, a
// refusal of the whole as an error.
func (c *Cluster) propose(ctx context.Context, cmd controller.Command) (controller.Result, error) {
	cmd.At = c.o.Now().UnixMilli()
	if _, err := rand.Read(cmd.Seed[:]); err != nil {
		return controller.Result{}, fmt.Errorf("draw a seed: %w", err)
	}
	b, err := cmd.Encode()
	if err != nil {
		return controller.Result{}, err
	}
	answer, err := c.o.Proposer.ProposeController(ctx, b)
	if err != nil {
		return controller.Result{}, fmt.Errorf("propose to the controller: %w", err)
	}
	r, err := controller.DecodeResult(answer)
	if err != nil {
		return r, err
	}
	return r, r.Refused.Err()
}

// conflictsMax is how often a change is worked out anew on what another
// proposer changed meanwhile.
const conflictsMax = 8

// repeat calls change until it does not end in ErrConflict.
func repeat(change func() error) (err error) {
	for range conflictsMax {
		if err = change(); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("after %d attempts: %w", conflictsMax, err)
}

// list splits a list setting; empty is none.
func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
