package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) profileCommand() *cobra.Command {
	c := group("profile", "Keep addresses of clusters under names",
		a.profileCreate(), a.profileUse(), a.profileList(), a.profileCurrent(),
		a.profilePrint(), a.profileSet(), a.profileDelete(), a.profileRename(), a.profileClear())
	return c
}

// changeProfiles reads the file, lets change alter it, and writes it.
func (a *app) changeProfiles(change func(f *profileFile) error) error {
	f, path, err := a.readProfiles()
	if err != nil {
		return err
	}
	if err := change(&f); err != nil {
		return err
	}
	return writeProfiles(path, f)
}

// setOptions parses key=value pairs and checks each as -X would.
func (p *profile) setOptions(pairs []string) error {
	for _, kv := range pairs {
		key, value, found := strings.Cut(kv, "=")
		if !found {
			return fmt.Errorf("%q: want key=value; `millrace -X list` names the keys", kv)
		}
		if key == "description" {
			p.Description = value
			continue
		}
		if err := new(settings).apply(key, value); err != nil {
			return err
		}
		if p.Options == nil {
			p.Options = map[string]string{}
		}
		p.Options[key] = value
	}
	return nil
}

func (a *app) profileCreate() *cobra.Command {
	var set []string
	var description, from string
	c := &cobra.Command{
		Use: "create NAME", Short: "Make a profile and use it", Args: cobra.ExactArgs(1),
		Example: "  millrace profile create prod --set brokers=10.0.0.5:9092 --set admin.hosts=10.0.0.5:9644 -d \"the real one\"",
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeProfiles(func(f *profileFile) error {
				if f.find(args[0]) != nil {
					return fmt.Errorf("profile %q exists; change it with `millrace profile set`", args[0])
				}
				p := profile{Name: args[0], Description: description}
				if from != "" {
					old := f.find(from)
					if old == nil {
						return f.missing(from)
					}
					p.Options = maps.Clone(old.Options)
				}
				if err := p.setOptions(append(slices.Clone(a.flags.opts), set...)); err != nil {
					return err
				}
				f.Profiles = append(f.Profiles, p)
				f.Current = p.Name
				fmt.Fprintf(a.out, "Created and switched to new profile %q.\n", p.Name)
				return nil
			})
		},
	}
	c.Flags().StringArrayVarP(&set, "set", "s", nil, "set an option, key=value, by the keys of -X")
	c.Flags().StringVarP(&description, "description", "d", "", "what the profile is for")
	c.Flags().StringVar(&from, "from-profile", "", "begin with the options of another profile")
	return c
}

func (a *app) completeProfile(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return a.profileNames(), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) profileUse() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Switch to a profile", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeProfile,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeProfiles(func(f *profileFile) error {
				if f.find(args[0]) == nil {
					return f.missing(args[0])
				}
				f.Current = args[0]
				fmt.Fprintf(a.out, "Set current profile to %q.\n", args[0])
				return nil
			})
		},
	}
}

func (a *app) profileList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List profiles; * is the current one", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, _, err := a.readProfiles()
			if err != nil {
				return err
			}
			slices.SortFunc(f.Profiles, func(x, y profile) int { return strings.Compare(x.Name, y.Name) })
			return a.print(f.Profiles, func(w *sheet) {
				var rows [][]any
				for _, p := range f.Profiles {
					name := p.Name
					if name == a.chosenProfile(&f) {
						name += "*"
					}
					rows = append(rows, []any{name, p.Description, p.Options["brokers"], p.Options["admin.hosts"]})
				}
				w.table([]string{"NAME", "DESCRIPTION", "+BROKERS", "+ADMIN"}, rows)
			})
		},
	}
}

func (a *app) profileCurrent() *cobra.Command {
	return &cobra.Command{
		Use: "current", Short: "Print the current profile's name", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, _, err := a.readProfiles()
			if err != nil {
				return err
			}
			fmt.Fprintln(a.out, a.chosenProfile(&f))
			return nil
		},
	}
}

func (a *app) profilePrint() *cobra.Command {
	return &cobra.Command{
		Use: "print [NAME]", Short: "Print a profile", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeProfile,
		RunE: func(_ *cobra.Command, args []string) error {
			f, _, err := a.readProfiles()
			if err != nil {
				return err
			}
			name := a.chosenProfile(&f)
			if len(args) == 1 {
				name = args[0]
			}
			p := f.find(name)
			if p == nil {
				return f.missing(name)
			}
			if a.flags.format == "json" {
				return writeJSON(a.out, p, "")
			}
			return writeYAML(a.out, p)
		},
	}
}

func (a *app) profileSet() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY=VALUE...", Short: "Set options of the current profile", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeProfiles(func(f *profileFile) error {
				name := a.chosenProfile(f)
				p := f.find(name)
				if p == nil {
					return f.missing(name)
				}
				if err := p.setOptions(args); err != nil {
					return err
				}
				fmt.Fprintf(a.out, "Profile %q updated.\n", name)
				return nil
			})
		},
	}
}

func (a *app) profileDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a profile", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeProfile,
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeProfiles(func(f *profileFile) error {
				if f.find(args[0]) == nil {
					return f.missing(args[0])
				}
				f.Profiles = slices.DeleteFunc(f.Profiles, func(p profile) bool { return p.Name == args[0] })
				if f.Current == args[0] {
					f.Current = ""
				}
				fmt.Fprintf(a.out, "Deleted profile %q.\n", args[0])
				return nil
			})
		},
	}
}

func (a *app) profileRename() *cobra.Command {
	return &cobra.Command{
		Use: "rename-to NAME", Short: "Rename the current profile", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.changeProfiles(func(f *profileFile) error {
				name := a.chosenProfile(f)
				p := f.find(name)
				if p == nil {
					return f.missing(name)
				}
				if f.find(args[0]) != nil {
					return fmt.Errorf("profile %q exists", args[0])
				}
				p.Name = args[0]
				if f.Current == name {
					f.Current = args[0]
				}
				fmt.Fprintf(a.out, "Renamed profile %q to %q.\n", name, args[0])
				return nil
			})
		},
	}
}

func (a *app) profileClear() *cobra.Command {
	return &cobra.Command{
		Use: "clear", Short: "Use no profile", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.changeProfiles(func(f *profileFile) error { f.Current = ""; return nil })
		},
	}
}
