package tidy

import (
	"go/ast"
	"slices"
	"strings"
)

// The hard limits of STYLE: a function is one screen, a file one noun.
const (
	functionLinesMax = 70
	fileLinesMax     = 800
)

// Lengths checks functions and files, but for tests and generated ones.
func Lengths(files []*File) (found []Violation) {
	for _, f := range files {
		if f.Test || f.Generated {
			continue
		}
		if f.Lines > fileLinesMax {
			found = append(found, Violation{f.Path, f.Lines, "length", "the file has more than 800 lines: split it by noun"})
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > functionLinesMax {
				found = append(found, f.at(fn.Pos(), "length", "%s has %d lines, the limit is %d", fn.Name.Name, n, functionLinesMax))
			}
		}
	}
	return found
}

// machines are the rooms of pure state machines.
var machines = []string{"broker/segment", "broker/partition", "broker/controller", "broker/group", "broker/txn"}

// printers are the folders that speak to a terminal.
var printers = []string{"broker/cli", "broker/cmd", "sidecar/cmd", "bench", "demo", "test", "deploy", "proto", "sdk"}

// Calls checks for banned calls and statements.
func Calls(files []*File) (found []Violation) {
	for _, f := range files {
		if f.Generated {
			continue
		}
		names := imported(f.AST)
		for _, d := range f.AST.Decls {
			function := ""
			if fn, ok := d.(*ast.FuncDecl); ok {
				function = fn.Name.Name
				if function == "init" && fn.Recv == nil && !f.Test {
					found = append(found, f.at(fn.Pos(), "init", "no init: build it where it is used (sync.OnceValue), or in server"))
				}
			}
			ast.Inspect(d, func(n ast.Node) bool {
				if why, rule := f.banned(n, function, names); why != "" {
					found = append(found, f.at(n.Pos(), rule, "%s", why))
				}
				return true
			})
		}
	}
	return found
}

// imported gives the import path of each package name used in a file.
func imported(tree *ast.File) map[string]string {
	names := map[string]string{}
	for _, spec := range tree.Imports {
		p := strings.Trim(spec.Path.Value, `"`)
		name := p[strings.LastIndex(p, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = p
	}
	return names
}

// banned says why a node is banned, and by which rule.
func (f *File) banned(n ast.Node, function string, names map[string]string) (why, rule string) {
	pure := !f.Test && slices.ContainsFunc(machines, func(r string) bool { return within(f.Dir, r) })
	switch n := n.(type) {
	case *ast.GoStmt:
		if pure {
			return "a state machine starts no goroutine", "pure"
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok {
			return f.bannedBuiltin(id, function)
		}
	case *ast.SelectorExpr:
		id, ok := n.X.(*ast.Ident)
		if !ok {
			return "", ""
		}
		return f.bannedName(names[id.Name]+"."+n.Sel.Name, pure)
	}
	return "", ""
}

func (f *File) bannedBuiltin(id *ast.Ident, function string) (why, rule string) {
	switch id.Name {
	case "panic":
		// Panicf is what a library asks of a logger; in a guest a panic is its trap.
		free := strings.HasPrefix(strings.ToLower(function), "must") || function == "Panicf" || within(f.Dir, "sdk/go")
		if !f.Test && !free {
			return "panic only in must: return an error, or state the invariant", "panic"
		}
	case "print", "println":
		return "no " + id.Name + ": log with slog", "print"
	}
	return "", ""
}

// clock are what reads or waits for the clock, or draws random numbers.
var clock = []string{"time.Now", "time.Since", "time.Until", "time.After", "time.AfterFunc", "time.NewTimer", "time.NewTicker", "time.Tick", "time.Sleep",
	"sync.Mutex", "sync.RWMutex", "sync.Cond", "sync.WaitGroup"}

func (f *File) bannedName(name string, pure bool) (why, rule string) {
	switch {
	case name == "time.Sleep" && f.Test:
		return "no time.Sleep in a test: use testing/synctest, a channel or a reply", "sleep"
	case strings.HasPrefix(name, "log.Fatal") || strings.HasPrefix(name, "log.Panic"):
		return "no " + name + ": return an error to main", "print"
	case !f.Test && (strings.HasPrefix(name, "fmt.Print") || strings.HasPrefix(name, "log.Print")):
		if !slices.ContainsFunc(printers, func(r string) bool { return within(f.Dir, r) }) {
			return "no " + name + " in a room: log with slog, or write to what you are given", "print"
		}
	case pure && slices.Contains(clock, name):
		return "a state machine has no clock and no lock: " + name + " is an input or its owner's", "pure"
	case pure && (strings.HasPrefix(name, "math/rand") || strings.HasPrefix(name, "crypto/rand") || strings.HasPrefix(name, "net.") || strings.HasPrefix(name, "net/")):
		return "a state machine has no randomness and no network: " + name, "pure"
	}
	return "", ""
}

// nameless are package names that say nothing.
var nameless = []string{"util", "utils", "common", "types", "helper", "helpers", "misc", "base", "shared"}

// Packages checks that every package has a comment and a name that means something.
func Packages(files []*File) (found []Violation) {
	type pkg struct {
		first      *File
		documented bool
	}
	by := map[string]*pkg{}
	var order []string
	for _, f := range files {
		if f.Test {
			continue
		}
		p, ok := by[f.Dir]
		if !ok {
			p = &pkg{first: f}
			by[f.Dir] = p
			order = append(order, f.Dir)
			if last := f.Dir[strings.LastIndex(f.Dir, "/")+1:]; slices.Contains(nameless, last) || slices.Contains(nameless, f.AST.Name.Name) {
				found = append(found, f.at(f.AST.Package, "name", "a package called %s says nothing: name its noun", f.AST.Name.Name))
			}
		}
		p.documented = p.documented || f.AST.Doc != nil || f.Generated
	}
	for _, dir := range order {
		if p := by[dir]; !p.documented {
			found = append(found, Violation{p.first.Path, 1, "doc", "package " + dir + " has no comment: write its doc.go (purpose, owner, invariants, what it never does)"})
		}
	}
	return found
}
