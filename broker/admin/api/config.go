package api

import "github.com/millrace-io/millrace/broker/model"

// ConfigRow describes one cluster setting, as package config declares it.
type ConfigRow struct {
	Name         string   `json:"name"`
	Type         string   `json:"type" doc:"boolean, integer, number, string, duration, bytes or list"`
	Unit         string   `json:"unit,omitempty"`
	Default      string   `json:"default"`
	Doc          string   `json:"doc"`
	Min          string   `json:"min,omitempty"`
	Max          string   `json:"max,omitempty"`
	Values       []string `json:"values,omitempty" doc:"The only values it takes"`
	NeedsRestart bool     `json:"needs_restart"`
	Secret       bool     `json:"secret" doc:"Never shown"`
}

// ConfigValue is a setting's value as it holds now.
type ConfigValue struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source" doc:"default or cluster"`
}

// ConfigChange sets and removes overrides, all or none.
type ConfigChange struct {
	Set    map[string]string `json:"set,omitempty" doc:"Settings to change"`
	Remove []string          `json:"remove,omitempty" doc:"Settings that go back to their default"`
	DryRun bool              `json:"dry_run,omitempty" doc:"Check only"`
}

// ConfigChanged says what a change did.
type ConfigChanged struct {
	Version      uint64   `json:"version" doc:"Version of the cluster's metadata that holds the change"`
	Changed      []string `json:"changed" doc:"Settings whose value is another one now"`
	NeedsRestart []string `json:"needs_restart" doc:"Those of them that hold only after a restart"`
}

// ConfigStatus is how far one node is with the cluster's settings.
type ConfigStatus struct {
	Node         model.NodeID `json:"node"`
	Version      uint64       `json:"version"`
	NeedsRestart bool         `json:"needs_restart"`
	Invalid      []string     `json:"invalid" doc:"Settings whose stored value the node's build refuses; their default holds"`
	Unknown      []string     `json:"unknown" doc:"Settings that the node's build does not know"`
	Reason       string       `json:"reason,omitempty" doc:"Why nothing is known of the node"`
}
