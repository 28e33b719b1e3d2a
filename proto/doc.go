// Package proto holds Millrace's own wire messages as .proto files, each kind
// in a folder with the Go code generated from it, checked in.
//
// `go generate ./proto/...` writes the same bytes again from the same sources:
// it needs no protoc and no network beyond the module cache. What is generated
// is never edited.
package proto

//go:generate go run ./internal/gen -out . pluginpb/control.proto pluginpb/sync.proto pluginpb/async.proto
