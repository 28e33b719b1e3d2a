// Package templates writes new transform projects, which build and pass their own test without a network.
//
// Owner: nobody; the templates are part of the binary. Invariants: Generate writes into an empty or new directory only, and a generated
// project needs nothing but its language's toolchain. The folder files/go-sdk is a copy of sdk/go's sources, because Go does not embed
// across modules; a test fails when it is stale, and rewrites it with -rewrite. It never runs a toolchain.
package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	js "github.com/millrace-io/millrace/sdk/js"
	"github.com/millrace-io/millrace/sdk/manifest"
)

// Files holds one folder for each language, and go-sdk. Names that would mean something to a toolchain or to git carry another one
// here: "go.mod.txt", "gitignore".
//
//go:embed files
var Files embed.FS

// What Generate refuses.
var (
	// ErrNotEmpty: the directory holds something already; nothing was written.
	ErrNotEmpty = errors.New("directory is not empty")
	// ErrLanguage: there is no template for that language.
	ErrLanguage = errors.New("no template for this language")
)

// Languages lists what Generate knows, the default first.
func Languages() []string { return []string{manifest.JavaScript, manifest.Go} }

// Generate writes a project of that name into dir, which must be empty or not exist yet.
func Generate(dir, name, language string) error {
	if !slices.Contains(Languages(), language) {
		return fmt.Errorf("%w: %q, there are %s", ErrLanguage, language, strings.Join(Languages(), " and "))
	}
	if err := manifest.CheckName(name); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("generate %s: %w", name, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("generate %s in %s: %w", name, dir, ErrNotEmpty)
	}
	if err := writeAll(Files, path.Join("files", language), dir, name); err != nil {
		return fmt.Errorf("generate %s: %w", name, err)
	}
	if err := writeSDK(filepath.Join(dir, "millrace-sdk"), language); err != nil {
		return fmt.Errorf("generate %s: %w", name, err)
	}
	return nil
}

// writeSDK writes the language's library, so that the project builds before anything is published.
func writeSDK(dir, language string) error {
	if language == manifest.Go {
		return writeAll(Files, "files/go-sdk", dir, "")
	}
	return writeAll(js.Files, ".", dir, "")
}

// writeAll writes the files of a folder, by their right names. With a project's name, they are templates.
func writeAll(files fs.FS, folder, dir, project string) error {
	return fs.WalkDir(files, folder, func(from string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, from)
		if err != nil {
			return err
		}
		if project != "" {
			if text, err = fill(from, text, project); err != nil {
				return err
			}
		}
		name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(from, folder), "/"), ".txt")
		if name == "gitignore" {
			name = ".gitignore"
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, text, 0o644)
	})
}

func fill(name string, text []byte, project string) ([]byte, error) {
	t, err := template.New(name).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, struct{ Name string }{project})
	return out.Bytes(), err
}
