package bundle

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// project writes files and returns the path of the first.
func project(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0])
}

func TestBundle(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  []string
	}{
		"plain": {[]string{"main.js", "export default (r) => r;"}, []string{"var __millrace_main", `"use strict"`}},
		"typescript with the SDK": {
			[]string{"main.ts", "import { transform, env, type Transform } from '@millrace/sdk';\nconst f: Transform = (r) => env.X ? r : null;\nexport default transform(f);"},
			[]string{"globalThis.__millrace", "__millrace_main"},
		},
		"an installed SDK wins": {
			[]string{"main.js", "import { mine } from '@millrace/sdk'; export default mine;", "node_modules/@millrace/sdk/package.json", `{"main":"x.js"}`,
				"node_modules/@millrace/sdk/x.js", "export const mine = () => 'installed';"},
			[]string{"installed"},
		},
		"packages": {
			[]string{"main.js", "import a from 'a'; import { b } from 'b'; export default () => a(b);",
				"node_modules/a/package.json", `{"main":"a.js"}`, "node_modules/a/a.js", "/*! licence of a */ module.exports = () => process.env.NODE_ENV;",
				"node_modules/b/package.json", `{"exports":{"import":"./b.mjs","require":"./no.js"}}`, "node_modules/b/b.mjs", "export const b = 'from b';"},
			[]string{"from b", "licence of a", `"production"`},
		},
		"a package with the name of a Node module": {
			[]string{"main.js", "import e from 'events'; export default e;", "node_modules/events/index.js", "module.exports = () => 'ours';"},
			[]string{"ours"},
		},
		"CommonJS and JSON": {[]string{"main.cjs", "module.exports = () => require('./d.json').n;", "d.json", `{"n":42}`}, []string{"42", "__millrace_main"}},
	} {
		code, warnings, err := Bundle(project(t, c.files...))
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v %q", name, err, warnings)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(string(code), want) {
				t.Errorf("%s: no %q in\n%s", name, want, code)
			}
		}
	}
}

func TestBundleDoesNotDependOnItsPlace(t *testing.T) {
	files := []string{"main.js", "import { log } from '@millrace/sdk'; import x from './lib/x.js'; export default (r) => log.info(x);", "lib/x.js", "export default 'é';"}
	first, _, err := Bundle(project(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Bundle(project(t, files...))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two places, two bundles: %v\n%s\n%s", err, first, second)
	}
}

func TestBundleErrors(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		cause error
		want  string
	}{
		"syntax":       {[]string{"main.js", "export default\n  function ( {"}, ErrBundle, "main.js:2:15: "},
		"in a file":    {[]string{"main.js", "import './lib/x.js'", "lib/x.js", "\nlet a = ;"}, ErrBundle, "lib/x.js:2:9: "},
		"no package":   {[]string{"main.js", "import a from 'nowhere'; export default a;"}, ErrBundle, `main.js:1:15: Could not resolve "nowhere"`},
		"node module":  {[]string{"main.js", "\nimport fs from 'node:fs'; export default fs;"}, ErrBundle, `main.js:2:16: "node:fs" is a module of Node.js`},
		"testing":      {[]string{"main.js", "import { run } from '@millrace/sdk/testing'; export default run;"}, ErrBundle, "is for tests"},
		"await on top": {[]string{"main.js", "await 1; export default 1;"}, ErrBundle, "main.js:1:1: "},
		"not a script": {[]string{"main.py", "x"}, ErrEntry, "want one of .js"},
		"a directory":  {[]string{"main.js/x", "x"}, os.ErrNotExist, ""},
	} {
		entry := project(t, c.files...)
		if c.cause == os.ErrNotExist {
			entry += ".js"
		}
		_, _, err := Bundle(entry)
		if !errors.Is(err, c.cause) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestBundleWarns(t *testing.T) {
	_, warnings, err := Bundle(project(t, "main.js", "export default (r) => { if (typeof r == 'objekt') return r; };"))
	if err != nil || len(warnings) == 0 || !strings.HasPrefix(warnings[0], "main.js:1:") {
		t.Errorf("got %q, %v", warnings, err)
	}
}
