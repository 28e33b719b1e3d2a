package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeConfigs (key 32), versions 1 to 4: of topics, of this broker (its id as
// the name), and what is set for all brokers (empty name), with type,
// documentation, source and synonyms. Secrets are shown without value. Groups
// and client metrics have no settings here.

var (
	errResourceType = errors.New("resource type has no settings here")
	errResourceName = errors.New("invalid resource name")
)

func (s *Server) describeConfigs(_ context.Context, r *request, m *kmsg.DescribeConfigsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.DescribeConfigsResponse)
	seen := map[resource]bool{} // naming one twice must not double the answer
	for i := range m.Resources {
		ask := &m.Resources[i]
		res := resource{ask.ResourceType, ask.ResourceName}
		if seen[res] {
			continue
		}
		seen[res] = true
		out := kmsg.NewDescribeConfigsResponseResource()
		out.ResourceType, out.ResourceName = ask.ResourceType, ask.ResourceName
		values, err := s.settings(ask.ResourceType, ask.ResourceName)
		out.ErrorCode, out.ErrorMessage = code(err), text(err)
		out.Configs = make([]kmsg.DescribeConfigsResponseResourceConfig, 0, len(values))
		for i := range values {
			if len(ask.ConfigNames) == 0 || slices.Contains(ask.ConfigNames, values[i].Row.Name) {
				out.Configs = append(out.Configs, setting(m, &values[i]))
			}
		}
		answer.Resources = append(answer.Resources, out)
	}
	return answer
}

// settings gives all settings of a resource.
func (s *Server) settings(kind kmsg.ConfigResourceType, name string) ([]config.Value, error) {
	m := s.o.Cluster.Metadata()
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if err := model.CheckTopicName(name); err != nil {
			return nil, err
		}
		t, err := s.topic(false, name, [16]byte{})
		if err != nil {
			return nil, err
		}
		return m.DescribeTopic(t, s.o.Node), nil
	case kmsg.ConfigResourceTypeBroker:
		node, err := s.brokerName(name)
		if err != nil {
			return nil, err
		}
		if node == model.NoNode { // what was set for all brokers, as Kafka tells it
			return slices.DeleteFunc(m.DescribeCluster(node), func(v config.Value) bool {
				return v.Source != config.SourceCluster
			}), nil
		}
		values := m.DescribeCluster(node)
		if s.o.NodeConfigs != nil && node == s.o.Node {
			values = append(values, s.o.NodeConfigs()...)
		}
		return values, nil
	case kmsg.ConfigResourceTypeGroupConfig, kmsg.ConfigResourceTypeClientMetrics:
		return nil, nil
	}
	return nil, fmt.Errorf("%w: %d", errResourceType, kind)
}

// brokerName reads the name of a broker resource: a node's id, or empty for all.
func (s *Server) brokerName(name string) (model.NodeID, error) {
	if name == "" {
		return model.NoNode, nil
	}
	id, err := strconv.ParseInt(name, 10, 32)
	if err != nil {
		return model.NoNode, fmt.Errorf("%w: broker %q is no number", errResourceName, name)
	}
	if _, ok := s.o.Cluster.Metadata().Node(model.NodeID(id)); !ok {
		return model.NoNode, fmt.Errorf("%w: there is no broker %d", errResourceName, id)
	}
	return model.NodeID(id), nil
}

func setting(m *kmsg.DescribeConfigsRequest, v *config.Value) kmsg.DescribeConfigsResponseResourceConfig {
	c := kmsg.NewDescribeConfigsResponseResourceConfig()
	c.Name, c.IsSensitive = v.Row.Name, v.Row.Secret
	c.ReadOnly = v.Row.Scope == config.ScopeNode
	c.Source = kmsg.ConfigSource(v.Source)
	c.IsDefault = v.Source == config.SourceDefault
	c.ConfigType = kmsg.ConfigType(v.Row.Kind.KafkaType())
	show := func(value string) *string {
		if v.Row.Secret {
			return nil
		}
		return &value
	}
	c.Value = show(v.Value)
	if m.IncludeDocumentation {
		c.Documentation = kmsg.StringPtr(v.Row.Doc)
	}
	if m.IncludeSynonyms {
		for _, y := range v.Synonyms {
			out := kmsg.NewDescribeConfigsResponseResourceConfigConfigSynonym()
			out.Name, out.Value, out.Source = y.Name, show(y.Value), kmsg.ConfigSource(y.Source)
			c.ConfigSynonyms = append(c.ConfigSynonyms, out)
		}
	}
	return c
}
