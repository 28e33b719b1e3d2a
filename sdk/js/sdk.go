// Package js holds the JavaScript SDK's own files, so that the CLI can bundle scripts against it and write it into new projects without
// a package registry. The engine's sources are in engine/, the bundler in bundle/, the packing of modules in snapshot/.
//
// Owner: nobody; Files never changes. It never runs anything.
package js

import "embed"

// Files is the npm package @millrace/sdk.
//
//go:embed index.js index.d.ts headers.js testing.js testing.d.ts package.json README.md
var Files embed.FS
