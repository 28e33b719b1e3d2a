package config

// Source says where a value comes from; the numbers are DescribeConfigs'.
type Source int8

// The sources, the strongest first.
const (
	SourceTopic   Source = 1 // an override of the topic
	SourceNode    Source = 2 // an override of this node
	SourceCluster Source = 3 // an override of the cluster
	SourceStatic  Source = 4 // the node's flags, file or environment
	SourceDefault Source = 5
)

// Layer is a set of settings of one source.
type Layer struct {
	Source Source
	Values map[string]string
}

// Synonym is one place that a value could come from.
type Synonym struct {
	Name   string
	Value  string
	Source Source
}

// Value is a setting as it holds, with every place it was looked for, the
// strongest first: the first one holds. Print it with Row.Show.
type Value struct {
	Row      *Row
	Value    string
	Source   Source
	Synonyms []Synonym
}

// DescribeTopic gives every topic setting: overrides, then layers of cluster
// scope from the strongest.
func DescribeTopic(overrides map[string]string, layers ...Layer) []Value {
	var values []Value
	for _, r := range Rows(ScopeTopic) {
		v := Value{Row: r}
		v.look(r.Name, Layer{SourceTopic, overrides})
		if r.Cluster != "" {
			v.look(r.Cluster, layers...)
		}
		values = append(values, v.ended())
	}
	return values
}

// DescribeCluster gives every cluster setting: layers from the strongest.
func DescribeCluster(layers ...Layer) []Value {
	var values []Value
	for _, r := range Rows(ScopeCluster) {
		v := Value{Row: r}
		v.look(r.Name, layers...)
		values = append(values, v.ended())
	}
	return values
}

func (v *Value) look(name string, layers ...Layer) {
	for _, l := range layers {
		if text, ok := l.Values[name]; ok {
			v.Synonyms = append(v.Synonyms, Synonym{Name: name, Value: text, Source: l.Source})
		}
	}
}

// ended adds the default and takes the first synonym as the value.
func (v *Value) ended() Value {
	name := v.Row.Name
	if v.Row.Cluster != "" {
		name = v.Row.Cluster
	}
	v.Synonyms = append(v.Synonyms, Synonym{Name: name, Value: v.Row.Default, Source: SourceDefault})
	v.Value, v.Source = v.Synonyms[0].Value, v.Synonyms[0].Source
	return *v
}
