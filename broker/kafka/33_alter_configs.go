package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-io/millrace/broker/model"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs (key 33), versions 0 to 2: the settings given become the only
// overrides of a resource. Resources that may change are topics and brokers.

// alterTimeout bounds a change of settings, whose requests carry no timeout.
const alterTimeout = 30 * time.Second

var (
	errNullValue  = errors.New("a setting needs a value")
	errNamedTwice = errors.New("named twice in one request")
)

func (s *Server) alterConfigs(ctx context.Context, _ *request, m *kmsg.AlterConfigsRequest) kmsg.Response {
	answer := m.ResponseKind().(*kmsg.AlterConfigsResponse)
	ctx, cancel := context.WithTimeout(ctx, alterTimeout)
	defer cancel()
	seen := map[resource]bool{}
	for i := range m.Resources {
		ask := &m.Resources[i]
		out := kmsg.NewAlterConfigsResponseResource()
		out.ResourceType, out.ResourceName = ask.ResourceType, ask.ResourceName
		res := resource{ask.ResourceType, ask.ResourceName}
		values, err := replacement(ask)
		switch {
		case seen[res]:
			err = fmt.Errorf("%w: resource %q", errNamedTwice, ask.ResourceName)
		case err == nil:
			err = s.replaceConfigs(ctx, res, values, m.ValidateOnly)
		}
		seen[res] = true
		out.ErrorCode, out.ErrorMessage = codeOfAdmin(err), text(err)
		answer.Resources = append(answer.Resources, out)
	}
	return answer
}

// resource names what settings belong to.
type resource struct {
	kind kmsg.ConfigResourceType
	name string
}

func replacement(ask *kmsg.AlterConfigsRequestResource) (map[string]string, error) {
	values := make(map[string]string, len(ask.Configs))
	for _, c := range ask.Configs {
		if c.Value == nil {
			return nil, fmt.Errorf("%w: %s", errNullValue, c.Name)
		}
		if _, twice := values[c.Name]; twice {
			return nil, fmt.Errorf("%w: setting %s", errNamedTwice, c.Name)
		}
		values[c.Name] = *c.Value
	}
	return values, nil
}

func (s *Server) replaceConfigs(ctx context.Context, r resource, values map[string]string, validateOnly bool) error {
	switch r.kind {
	case kmsg.ConfigResourceTypeTopic:
		if err := model.CheckTopicName(r.name); err != nil {
			return err
		}
		_, err := s.o.Cluster.ReplaceTopicConfigs(ctx, r.name, values, validateOnly)
		return err
	case kmsg.ConfigResourceTypeBroker:
		node, err := s.brokerName(r.name)
		if err != nil {
			return err
		}
		return s.o.Cluster.ReplaceClusterConfigs(ctx, node, values, validateOnly)
	}
	return fmt.Errorf("%w: %d", errResourceType, r.kind)
}
