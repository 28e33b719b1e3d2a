package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Reference writes all commands as Markdown: docs/CLI.md.
func Reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# The millrace command\n\n" +
		"Generated from the commands themselves (`go test ./broker/cli -run Reference -rewrite`). " +
		"`millrace COMMAND --help` shows the same.\n\n")
	fmt.Fprintf(&b, "%s\n\n", fence(root.Long))
	fmt.Fprintf(&b, "Flags of every command:\n\n%s\n\n", fence(flagLines(root.PersistentFlags())))
	for _, c := range root.Commands() {
		reference(&b, c)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func fence(text string) string { return "```text\n" + strings.Trim(text, "\n") + "\n```" }

func reference(b *strings.Builder, c *cobra.Command) {
	if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
		return
	}
	depth := strings.Count(c.CommandPath(), " ")
	fmt.Fprintf(b, "%s %s\n\n%s.\n\n", strings.Repeat("#", depth+1), c.CommandPath(), c.Short)
	if !c.HasSubCommands() || flagLines(c.LocalNonPersistentFlags()) != "" { // one that does something itself
		use := c.UseLine()
		if len(c.Aliases) > 0 {
			use += "\n(also: " + strings.Join(c.Aliases, ", ") + ")"
		}
		parts := []string{use, c.Long, c.Example, flagLines(c.LocalNonPersistentFlags())}
		var text []string
		for _, p := range parts {
			if p != "" {
				text = append(text, strings.Trim(p, "\n"))
			}
		}
		fmt.Fprintf(b, "%s\n\n", fence(strings.Join(text, "\n\n")))
	} else if own := flagLines(c.PersistentFlags()); own != "" {
		fmt.Fprintf(b, "Flags of all these commands:\n\n%s\n\n", fence(own))
	}
	for _, sub := range c.Commands() {
		reference(b, sub)
	}
}

// flagLines leaves out help, which every command has.
func flagLines(f *pflag.FlagSet) string {
	kept := pflag.NewFlagSet("", pflag.ContinueOnError)
	kept.SortFlags = f.SortFlags
	f.VisitAll(func(flag *pflag.Flag) {
		if flag.Name != "help" {
			kept.AddFlag(flag)
		}
	})
	var lines []string
	for line := range strings.Lines(kept.FlagUsages()) {
		lines = append(lines, strings.TrimRight(line, " \n"))
	}
	return strings.Join(lines, "\n")
}
