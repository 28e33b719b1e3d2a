package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestFormatsAreWritten: docs/FORMATS.md gives the newest version of each kind of file, as
// the source has it.
func TestFormatsAreWritten(t *testing.T) {
	doc, err := os.ReadFile("../../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ row, file, constant string }{
		{"`identity.json`", "server/identity.go", "formatLevels"},
		{"journal file", "journal/files.go", "version"},
		{"segment; index", "segment/meta.go", "version"},
		{"checkpoint, and", "partition/checkpoint.go", "checkpointVersion"},
		{"command of a partition", "partition/command.go", "commandVersion"},
		{"command of the controller", "controller/command.go", "commandVersion"},
		{"snapshot of the controller", "controller/snapshot.go", "snapshotLevels"},
		{"note, for", "raft/note.go", "noteVersion"},
		{"`__scripts`", "script/format.go", "formatVersion"},
	} {
		source, err := os.ReadFile(filepath.Join("..", c.file))
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?m)^(?:const)?\s*` + c.constant + `(?:\s+\w+)?\s*=\s*(\d+)`).FindSubmatch(source)
		if found == nil {
			t.Errorf("%s has no constant %s", c.file, c.constant)
			continue
		}
		rows := strings.Split(string(doc), "\n")
		i := slices.IndexFunc(rows, func(r string) bool { return strings.HasPrefix(r, "| "+c.row) })
		if i < 0 {
			t.Errorf("no row %q in FORMATS.md", c.row)
			continue
		}
		cells := strings.Split(strings.Trim(rows[i], "|"), "|")
		if !regexp.MustCompile(`\b` + string(found[1]) + `\b`).MatchString(cells[len(cells)-1]) {
			t.Errorf("%s is %s in %s; FORMATS.md says:%s", c.constant, found[1], c.file, cells[len(cells)-1])
		}
	}
}
