// Package config declares every setting of Millrace once: name, scope, type,
// default, limits, documentation. Flags, files, the environment, the Kafka
// API's DescribeConfigs, the admin API and docs/CONFIG.md all read these rows.
//
// Three scopes: node (fixed when a node starts; snake_case names), cluster
// (changeable while it runs; Kafka's broker names, or Redpanda's meaning under
// Kafka's style of name) and topic (Kafka's names). A topic setting without an
// override takes its cluster setting (the row's Cluster), then its default.
//
// Owner: nobody; rows are built once and never change, the values returned are
// the caller's. Invariants: a value that Check accepted is one that Resolve
// takes; a secret row's value is never printed. It never reads the clock,
// the network or any state but the file and environment given to Load.
package config
