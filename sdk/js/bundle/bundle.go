// Package bundle makes one file of a JavaScript or TypeScript transform and all that it imports, as the engine wants it: a classic script
// that leaves the exports of the entry in the global __millrace_main.
//
// Owner: nobody; Bundle is a function of the files it reads. Invariants: the output names no path of the machine, so the same sources give
// the same bytes and the same digest; what cannot run in the engine (a Node module, a binary) is an error that names file, line and column.
// It never runs the script, and never fetches a package: those are in node_modules, or are the SDK, which it brings along.
package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/evanw/esbuild/pkg/api"

	js "github.com/millrace-io/millrace/sdk/js"
)

// globalName is where the engine looks for the entry's exports.
const globalName = "__millrace_main"

// codeBytesMax bounds a bundled script: the engine keeps it in the memory of every instance.
const codeBytesMax = 8 << 20

// What Bundle refuses.
var (
	// ErrEntry: the entry is not a script that can be bundled.
	ErrEntry = errors.New("not a script")
	// ErrBundle: the sources are wrong; the text lists each error with file:line:column.
	ErrBundle = errors.New("the script does not build")
	// ErrTooLarge: the bundled script exceeds 8 MiB.
	ErrTooLarge = errors.New("the bundled script is too large")
)

var extensions = []string{".js", ".mjs", ".cjs", ".ts", ".mts", ".cts", ".jsx", ".tsx"}

// Bundle bundles the script at entry. Warnings look like "main.js:3:7: text", as do the lines of an ErrBundle.
func Bundle(entry string) (code []byte, warnings []string, err error) {
	path, err := filepath.Abs(entry)
	if err != nil {
		return nil, nil, err
	}
	if info, err := os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("bundle %s: %w", entry, err)
	} else if info.IsDir() || !slices.Contains(extensions, filepath.Ext(path)) {
		return nil, nil, fmt.Errorf("bundle %s: %w: want one of %s", entry, ErrEntry, strings.Join(extensions, " "))
	}
	result := api.Build(options(path))
	warnings = lines(result.Warnings)
	if len(result.Errors) > 0 {
		return nil, warnings, fmt.Errorf("bundle %s: %w:\n%s", entry, ErrBundle, strings.Join(lines(result.Errors), "\n"))
	}
	code = result.OutputFiles[0].Contents
	if len(code) > codeBytesMax {
		return nil, warnings, fmt.Errorf("bundle %s: %w: %d bytes, the limit is %d", entry, ErrTooLarge, len(code), codeBytesMax)
	}
	return code, warnings, nil
}

func options(path string) api.BuildOptions {
	return api.BuildOptions{
		EntryPoints:   []string{path},
		AbsWorkingDir: filepath.Dir(path), // paths in the output and in errors are relative to it
		Bundle:        true,
		Format:        api.FormatIIFE,
		GlobalName:    globalName,
		Target:        api.ES2023,
		Platform:      api.PlatformNeutral,
		MainFields:    []string{"module", "main"},
		Conditions:    []string{"import", "module"},
		Charset:       api.CharsetUTF8,
		LegalComments: api.LegalCommentsEndOfFile, // licences of packages stay with their code
		TreeShaking:   api.TreeShakingTrue,
		Define:        map[string]string{"process.env.NODE_ENV": `"production"`, "global": "globalThis"},
		// Modules are strict code; without this, a mistyped record.valeu = 1 would be ignored instead of thrown at.
		Banner:   map[string]string{"js": `"use strict";`},
		LogLevel: api.LogLevelSilent,
		Plugins:  []api.Plugin{sdkPlugin(), nodePlugin()},
	}
}

// resolving marks a resolution that a plugin asked for itself.
type resolving struct{}

const sdkNamespace = "millrace-sdk"

// sdkPlugin lets "@millrace/sdk" be imported without having been installed; an installed one is taken.
func sdkPlugin() api.Plugin {
	return api.Plugin{Name: sdkNamespace, Setup: func(build api.PluginBuild) {
		build.OnResolve(api.OnResolveOptions{Filter: `^@millrace/sdk$`}, func(args api.OnResolveArgs) (api.OnResolveResult, error) {
			if args.PluginData == (resolving{}) {
				return api.OnResolveResult{}, nil
			}
			found := build.Resolve(args.Path, api.ResolveOptions{ResolveDir: args.ResolveDir, Importer: args.Importer, Kind: args.Kind, PluginData: resolving{}})
			if len(found.Errors) == 0 {
				return api.OnResolveResult{Path: found.Path, Namespace: found.Namespace}, nil
			}
			return api.OnResolveResult{Path: "index.js", Namespace: sdkNamespace}, nil
		})
		build.OnResolve(api.OnResolveOptions{Filter: `^@millrace/sdk/testing$`}, func(api.OnResolveArgs) (api.OnResolveResult, error) {
			return api.OnResolveResult{}, errors.New("@millrace/sdk/testing is for tests: it cannot be part of a transform")
		})
		build.OnLoad(api.OnLoadOptions{Filter: `.*`, Namespace: sdkNamespace}, func(args api.OnLoadArgs) (api.OnLoadResult, error) {
			text, err := js.Files.ReadFile(args.Path)
			contents := string(text)
			return api.OnLoadResult{Contents: &contents, Loader: api.LoaderJS}, err
		})
	}}
}

// nodeModules are Node's own, which packages for servers import; there is nothing behind them in the engine.
const nodeModules = `^(node:.*|assert|buffer|child_process|cluster|crypto|dgram|dns|events|fs|fs/promises|http|http2|https|module|net|os|path|perf_hooks|process|` +
	`querystring|readline|stream|string_decoder|timers|tls|tty|url|util|v8|vm|worker_threads|zlib)$`

// nodePlugin says what an import of a Node module means. A package of that name in node_modules is taken.
func nodePlugin() api.Plugin {
	return api.Plugin{Name: "node-modules", Setup: func(build api.PluginBuild) {
		build.OnResolve(api.OnResolveOptions{Filter: nodeModules}, func(args api.OnResolveArgs) (api.OnResolveResult, error) {
			if args.PluginData == (resolving{}) {
				return api.OnResolveResult{}, nil
			}
			found := build.Resolve(args.Path, api.ResolveOptions{ResolveDir: args.ResolveDir, Importer: args.Importer, Kind: args.Kind, PluginData: resolving{}})
			if len(found.Errors) == 0 {
				return api.OnResolveResult{Path: found.Path, Namespace: found.Namespace}, nil
			}
			return api.OnResolveResult{}, fmt.Errorf("%q is a module of Node.js: a transform has no files, network or processes; "+
				"use a package made for browsers, or put one of that name into node_modules", args.Path)
		})
	}}
}

// lines makes one line of each message, and one of each of its notes.
func lines(messages []api.Message) []string {
	var list []string
	for _, m := range messages {
		list = append(list, line(m.Location, m.Text))
		for _, note := range m.Notes {
			list = append(list, "  "+line(note.Location, note.Text))
		}
	}
	return list
}

func line(at *api.Location, text string) string {
	if at == nil || at.File == "" {
		return text
	}
	return fmt.Sprintf("%s:%d:%d: %s", at.File, at.Line, at.Column+1, text)
}
