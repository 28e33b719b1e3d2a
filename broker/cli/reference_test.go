package cli

import (
	"os"
	"testing"
)

// TestReference keeps docs/CLI.md true; -rewrite writes it.
func TestReference(t *testing.T) {
	const file = "../../docs/CLI.md"
	want := Reference(New(Deps{Environ: []string{}}))
	if *rewrite {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != want {
		t.Errorf("docs/CLI.md is stale (%v): go test ./broker/cli -run Reference -rewrite", err)
	}
}
