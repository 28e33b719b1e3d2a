package cli

import "github.com/spf13/cobra"

func (a *app) wasmCommand() *cobra.Command { return group("wasm", "x") }
