package cli

import (
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Commit  string `json:"commit,omitempty"`
				Go      string `json:"go"`
				System  string `json:"system"`
			}{a.deps.Version, a.deps.Commit, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			return a.print(v, func(w *sheet) {
				kv := []any{"Version:", v.Version}
				if v.Commit != "" {
					kv = append(kv, "Git ref:", v.Commit)
				}
				w.pairs(append(kv, "OS/Arch:", v.System, "Go version:", v.Go)...)
			})
		},
	}
}
