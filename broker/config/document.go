package config

import (
	"fmt"
	"strings"
)

// Document gives docs/CONFIG.md.
func Document() []byte {
	var b strings.Builder
	b.WriteString(`# Settings

Generated from the rows of broker/config: change those, then run ` + "`go test ./broker/config -rewrite`" + `.

A node's settings come from, the later winning: defaults, the defaults of its mode, the file of ` + "`--config`" + ` (YAML),
the environment, flags, ` + "`--set NAME=VALUE`" + `. Sizes of node settings are bytes or a number with K, M, G or T (powers of 1024),
times a number of milliseconds or one with ms, s, m or h. Unknown names are refused, with the line of the file.

Cluster and topic settings change while the cluster runs: ` + "`millrace cluster config set`" + `, ` + "`millrace topic alter-config`" + `, or any
Kafka tool. A cluster setting may also be given to a node at start; it then holds on that node until the cluster's is set.
`)
	section(&b, ScopeNode, "Node", "Each is a flag of `millrace start` unless it says `file`: then it is set by the file, the environment or `--set`.")
	section(&b, ScopeCluster, "Cluster", "")
	section(&b, ScopeTopic, "Topic", "Without an override, a topic takes the cluster setting named, then the default.")
	return []byte(b.String())
}

func section(b *strings.Builder, scope Scope, title, intro string) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if intro != "" {
		fmt.Fprintf(b, "%s\n\n", intro)
	}
	second := map[Scope]string{ScopeNode: "flag, environment", ScopeCluster: "environment at start", ScopeTopic: "cluster setting"}[scope]
	fmt.Fprintf(b, "| name | %s | type | default | values | |\n|---|---|---|---|---|---|\n", second)
	for _, r := range Rows(scope) {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", r.Name, r.where(), r.Kind, code(r.Default), cell(r.allowed()), cell(r.Doc))
	}
}

// where names the other ways to set a row.
func (r *Row) where() string {
	switch {
	case r.Scope == ScopeTopic:
		return code(r.Cluster)
	case r.Scope == ScopeCluster:
		return code(r.Env())
	case r.NoFlag:
		return "file, " + code(r.Env())
	}
	return code("--"+r.Flag()) + ", " + code(r.Env())
}

// allowed says what a row takes, beyond its type.
func (r *Row) allowed() string {
	switch {
	case len(r.Values) > 0:
		return strings.Join(r.Values, ", ")
	case r.Min != "" && r.Max != "":
		return r.Min + " to " + r.Max
	case r.Min != "":
		return "at least " + r.Min
	case r.Max != "":
		return "at most " + r.Max
	}
	return ""
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// cell keeps a text within its cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
