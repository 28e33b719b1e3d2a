package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is what imports of our own packages begin with.
const module = "github.com/millrace-io/millrace/"

// skipped are folders that hold nothing of ours, or nothing that is built.
var skipped = []string{"build", "bin", "node_modules", "testdata", "vendor"}

// File is one Go file of the tree, or what is wrong with it.
type File struct {
	Path      string // from the root, with slashes
	Dir       string // its folder likewise; "." is the root
	Test      bool   // ends in _test.go
	Generated bool
	Lines     int
	AST       *ast.File
	fset      *token.FileSet
}

// Violation is one place where a rule does not hold.
type Violation struct {
	Path string
	Line int
	Rule string
	Text string
}

// String gives "path:line: rule: text".
func (v Violation) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", v.Path, v.Line, v.Rule, v.Text)
}

// at is a violation at a place of f.
func (f *File) at(pos token.Pos, rule, format string, args ...any) Violation {
	return Violation{Path: f.Path, Line: f.fset.Position(pos).Line, Rule: rule, Text: fmt.Sprintf(format, args...)}
}

// Load reads every Go file below root, in order of path. A file that does not
// parse is a violation, not an error: others are being written at any time.
func Load(root string) (files []*File, broken []Violation, err error) {
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != root && (slices.Contains(skipped, d.Name()) || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		f, err := Parse(filepath.ToSlash(rel), src)
		if err != nil {
			broken = append(broken, Violation{Path: filepath.ToSlash(rel), Line: 1, Rule: "parse", Text: err.Error()})
			return nil
		}
		files = append(files, f)
		return nil
	})
	return files, broken, err
}

// Parse reads one file; name is its path from the root.
func Parse(name string, src []byte) (*File, error) {
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	return &File{
		Path: name, Dir: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"),
		Generated: ast.IsGenerated(tree), Lines: strings.Count(string(src), "\n"), AST: tree, fset: fset,
	}, nil
}
