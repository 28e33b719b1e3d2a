// Package tidy holds the rules of the source as tests over it: who may import
// whom, lengths, banned calls, package comments and names, generated documents.
//
// It reads files with go/parser, never through go list: the test cache would
// keep an old answer. A failing rule prints FILE:LINE: rule: what is wrong.
//
// Owner: nobody; all is functions over the files read. It never changes a file.
// A rule is changed here and in docs/ARCHITECTURE.md together; there is no list
// of exceptions to add to.
package tidy
