package bundle

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
	"github.com/millrace-io/millrace/broker/config"
)

// ask adds an answer of a broker, within its time.
func (b *bundle) ask(ctx context.Context, name string, f func(ctx context.Context) (any, error)) {
	b.json(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeMax)
		defer cancel()
		return f(ctx)
	})
}

// answer makes an answer one of any kind.
func answer[T any](f func(ctx context.Context) (T, error)) func(ctx context.Context) (any, error) {
	return func(ctx context.Context) (any, error) { return f(ctx) }
}

// cluster asks the admin API for what all nodes share.
func (b *bundle) cluster(ctx context.Context) {
	b.Say("asking for the cluster")
	c, err := b.Admin()
	if err != nil {
		b.missing("admin", err)
		return
	}
	b.ask(ctx, "cluster/info.json", answer(c.ClusterInfo))
	b.ask(ctx, "cluster/health.json", answer(c.Health))
	b.ask(ctx, "cluster/features.json", answer(c.Features))
	b.ask(ctx, "cluster/self-test.json", answer(c.SelfTest))
	b.ask(ctx, "cluster/config.json", func(ctx context.Context) (any, error) { return settings(ctx, c) })
	b.ask(ctx, "cluster/config-status.json", answer(c.ConfigStatus))
	b.ask(ctx, "cluster/partitions.json", func(ctx context.Context) (any, error) { return c.Partitions(ctx, "", true) })
	b.ask(ctx, "cluster/scripts.json", func(ctx context.Context) (any, error) { return scripts(ctx, c) })
}

// settings gives the cluster's settings without secrets, whatever the broker thinks one is.
func settings(ctx context.Context, c *client.Client) ([]api.ConfigValue, error) {
	secret := map[string]bool{}
	rows, err := c.ConfigSchema(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		secret[r.Name] = r.Secret
	}
	values, err := c.Config(ctx)
	for i := range values {
		v := &values[i]
		v.Value = hide(v.Name, v.Value, secret[v.Name])
	}
	return values, err
}

// hide gives a value as it may stand in a bundle.
func hide(name, value string, secret bool) string {
	if value != "" && (secret || config.LooksSecret(name)) {
		return config.Hidden
	}
	return value
}

// scripts gives how scripts stand; their environment is known by name alone.
func scripts(ctx context.Context, c *client.Client) ([]api.ScriptStatus, error) {
	all, err := c.Scripts(ctx)
	for i := range all {
		for name := range all[i].Env {
			all[i].Env[name] = config.Hidden
		}
	}
	return all, err
}

// kafka asks as Kafka's clients do: what they are told is what they stumble over.
func (b *bundle) kafka(ctx context.Context) {
	b.Say("asking the Kafka API")
	cl, err := b.Kafka(ctx)
	if err != nil {
		b.missing("kafka", err)
		return
	}
	defer cl.Close()
	b.ask(ctx, "kafka/metadata.json", func(ctx context.Context) (any, error) { return cl.Metadata(ctx) })
	b.ask(ctx, "kafka/start-offsets.json", func(ctx context.Context) (any, error) { return cl.ListStartOffsets(ctx) })
	b.ask(ctx, "kafka/end-offsets.json", func(ctx context.Context) (any, error) { return cl.ListEndOffsets(ctx) })
	b.ask(ctx, "kafka/topic-configs.json", func(ctx context.Context) (any, error) {
		m, err := cl.Metadata(ctx)
		if err != nil {
			return nil, err
		}
		return shown(cl.DescribeTopicConfigs(ctx, m.Topics.Names()...))
	})
	b.ask(ctx, "kafka/broker-configs.json", func(ctx context.Context) (any, error) {
		brokers, err := cl.ListBrokers(ctx)
		if err != nil {
			return nil, err
		}
		return shown(cl.DescribeBrokerConfigs(ctx, brokers.NodeIDs()...))
	})
	b.ask(ctx, "kafka/groups.json", func(ctx context.Context) (any, error) {
		lags, err := cl.Lag(ctx)
		return groups(lags), err
	})
}

// configs are the settings of a topic or a broker.
type configs struct {
	Name     string            `json:"name"`
	Error    string            `json:"error,omitempty"`
	Settings map[string]string `json:"settings"` // value and source
}

// shown gives settings without secrets.
func shown(rs kadm.ResourceConfigs, err error) ([]configs, error) {
	var all []configs
	for _, r := range rs {
		c := configs{Name: r.Name, Settings: map[string]string{}}
		if r.Err != nil {
			c.Error = r.Err.Error()
		}
		for _, s := range r.Configs {
			c.Settings[s.Key] = fmt.Sprintf("%s (%v)", hide(s.Key, s.MaybeValue(), s.Sensitive), s.Source)
		}
		all = append(all, c)
	}
	return all, err
}

// groupInfo is a group and what it has committed.
type groupInfo struct {
	Group   string   `json:"group"`
	State   string   `json:"state"`
	Error   string   `json:"error,omitempty"`
	Members int      `json:"members"`
	Lag     int64    `json:"lag"`
	Commits []commit `json:"commits"`
}

type commit struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	At        int64  `json:"at"`
	Lag       int64  `json:"lag"`
	Error     string `json:"error,omitempty"`
}

func groups(lags kadm.DescribedGroupLags) []groupInfo {
	all := []groupInfo{}
	for _, g := range lags.Sorted() {
		info := groupInfo{Group: g.Group, State: g.State, Members: len(g.Members), Lag: g.Lag.Total(), Commits: []commit{}}
		if err := g.Error(); err != nil {
			info.Error = err.Error()
		}
		for _, l := range g.Lag.Sorted() {
			c := commit{Topic: l.Topic, Partition: l.Partition, At: l.Commit.At, Lag: l.Lag}
			if l.Err != nil {
				c.Error = l.Err.Error()
			}
			info.Commits = append(info.Commits, c)
		}
		all = append(all, info)
	}
	return all
}
