package config

import "fmt"

// ResolveTopic gives a topic's settings: its override, else the cluster's, else
// the default. Names of other scopes in cluster are passed over; the error is
// of the first unknown or invalid override by name, and the rest is resolved.
func ResolveTopic(overrides, cluster map[string]string) (Topic, error) {
	var t Topic
	for name := range overrides {
		if _, err := Lookup(ScopeTopic, name); err != nil {
			return t, err
		}
	}
	for _, r := range Rows(ScopeTopic) {
		text := r.Default
		if v, ok := overrides[r.Name]; ok {
			text = v
		} else if v, ok := cluster[r.Cluster]; ok && r.Cluster != "" {
			text = v
		}
		v, err := r.parse(text)
		if err != nil {
			return t, err
		}
		r.topic(&t, v)
	}
	return t, nil
}

// ResolveCluster gives the cluster's settings from overrides and defaults.
func ResolveCluster(overrides map[string]string) (Cluster, error) {
	var c Cluster
	for name, text := range overrides {
		if err := CheckCluster(name, text); err != nil {
			return c, err
		}
	}
	for _, r := range Rows(ScopeCluster) {
		if r.cluster == nil {
			continue // read through ResolveTopic
		}
		text, ok := overrides[r.Name]
		if !ok {
			text = r.Default
		}
		v, err := r.parse(text)
		must(err == nil, "%s: a checked value does not parse: %v", r.Name, err)
		r.cluster(&c, v)
	}
	return c, nil
}

// CheckTopic refuses an unknown topic setting or a value that it cannot have.
func CheckTopic(name, value string) error { return check(ScopeTopic, name, value) }

// CheckCluster does so for the cluster scope.
func CheckCluster(name, value string) error { return check(ScopeCluster, name, value) }

func check(scope Scope, name, value string) error {
	r, err := Lookup(scope, name)
	if err != nil {
		return err
	}
	_, err = r.parse(value)
	return err
}

// CheckTopicTogether refuses values that are right one by one but do not go
// together. It is for whoever changes settings: ResolveTopic takes them.
func CheckTopicTogether(overrides, cluster map[string]string) error {
	t, err := ResolveTopic(overrides, cluster)
	switch {
	case err != nil:
		return err
	case t.CompactionLagMin > t.CompactionLagMax:
		return fmt.Errorf("%w: min.compaction.lag.ms is larger than max.compaction.lag.ms", ErrInvalid)
	case t.LocalRetentionTime >= 0 && t.RetentionTime >= 0 && t.LocalRetentionTime > t.RetentionTime:
		return fmt.Errorf("%w: local.retention.ms is larger than retention.ms", ErrInvalid)
	case t.LocalRetentionBytes >= 0 && t.RetentionBytes >= 0 && t.LocalRetentionBytes > t.RetentionBytes:
		return fmt.Errorf("%w: local.retention.bytes is larger than retention.bytes", ErrInvalid)
	}
	return nil
}
