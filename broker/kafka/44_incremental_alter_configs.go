package kafka

import (
	"context"
	"fmt"

	"github.com/millrace-io/millrace/broker/cluster"
	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs (key 44), versions 0 to 1: set, delete, append and
// subtract single settings; of a resource all or none.

func (s *Server) incrementalAlterConfigs(ctx context.Context, _ *request, m *kmsg.IncrementalAlterConfigsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.IncrementalAlterConfigsResponse)
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	seen := map[resource]bool{}
	for i := range m.Resources {
		ask := &m.Resources[i]
		out := kmsg.NewIncrementalAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = ask.ResourceType, ask.ResourceName
		res := resource{ask.ResourceType, ask.ResourceName}
		ops, err := configOps(ask)
		switch {
		case seen[res]:
			err = fmt.Errorf("%w: resource %q", errNamedTwice, ask.ResourceName)
		case err == nil:
			err = s.changeConfigs(ctx, res, ops, m.ValidateOnly)
		}
		seen[res] = true
		out.ErrorCode, out.ErrorMessage = codeOfAdmin(err), text(err)
		answer.Resources = append(answer.Resources, out)
	}
	return answer
}

func configOps(ask *kmsg.IncrementalAlterConfigsRequestResource) ([]cluster.ConfigOp, error) {
	ops := make([]cluster.ConfigOp, 0, len(ask.Configs))
	seen := map[string]bool{}
	for _, c := range ask.Configs {
		op := cluster.ConfigOp{Name: c.Name, Kind: cluster.OpKind(c.Op)}
		switch {
		case c.Op < 0 || c.Op > kmsg.IncrementalAlterConfigOpSubtract:
			return nil, fmt.Errorf("%w: no change of kind %d of setting %s", errResourceType, c.Op, c.Name)
		case c.Value == nil && op.Kind != cluster.OpDelete:
			return nil, fmt.Errorf("%w: %s", errNullValue, c.Name)
		case seen[c.Name]:
			return nil, fmt.Errorf("%w: setting %s", errNamedTwice, c.Name)
		case c.Value != nil:
			op.Value = *c.Value
		}
		seen[c.Name] = true
		ops = append(ops, op)
	}
	return ops, nil
}

func (s *Server) changeConfigs(ctx context.Context, r resource, ops []cluster.ConfigOp, validateOnly bool) error {
	switch r.kind {
	case kmsg.ConfigResourceTypeTopic:
		if err := model.CheckTopicName(r.name); err != nil {
			return err
		}
		_, err := s.o.Cluster.AlterTopicConfigs(ctx, r.name, ops, validateOnly)
		return err
	case kmsg.ConfigResourceTypeBroker:
		node, err := s.brokerName(r.name)
		if err != nil {
			return err
		}
		return s.o.Cluster.AlterClusterConfigs(ctx, node, ops, validateOnly)
	}
	return fmt.Errorf("%w: %d", errResourceType, r.kind)
}
