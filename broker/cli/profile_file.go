package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"
)

// profileFile is ~/.config/millrace/millrace.yaml.
type profileFile struct {
	Current  string    `yaml:"current_profile"`
	Profiles []profile `yaml:"profiles"`
}

// profile names one broker or cluster.
type profile struct {
	Name        string            `yaml:"name" json:"name"`
	Description string            `yaml:"description,omitempty" json:"description,omitempty"`
	Options     map[string]string `yaml:"options,omitempty" json:"options,omitempty"` // by the keys of -X
}

// profileBytesMax bounds the file; it is written by hand.
const profileBytesMax = 1 << 20

func (a *app) profilePath() (string, error) {
	if a.flags.file != "" {
		return a.flags.file, nil
	}
	if dir := a.env("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "millrace", "millrace.yaml"), nil
	}
	if home := a.env("HOME"); home != "" {
		return filepath.Join(home, ".config", "millrace", "millrace.yaml"), nil
	}
	return "", errors.New("HOME is not set, so there is no place for profiles; give --config FILE")
}

// readProfiles reads the file; one that does not exist is empty.
func (a *app) readProfiles() (f profileFile, path string, err error) {
	if path, err = a.profilePath(); err != nil {
		return f, "", err
	}
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if a.flags.file != "" && a.flags.profile != "" {
			return f, path, fmt.Errorf("read profiles: %w", err)
		}
		return f, path, nil
	}
	if err != nil {
		return f, path, fmt.Errorf("read profiles: %w", err)
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, profileBytesMax))
	if err != nil {
		return f, path, fmt.Errorf("read profiles: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return f, path, fmt.Errorf("%s: %w", path, err)
	}
	return f, path, nil
}

// writeProfiles replaces the file by one rename.
func writeProfiles(path string, f profileFile) error {
	raw, err := yaml.Marshal(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write profiles: %w", err)
	}
	return replaceFile(path, raw, 0o600)
}

func replaceFile(path string, content []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".millrace-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (f *profileFile) find(name string) *profile {
	for i := range f.Profiles {
		if f.Profiles[i].Name == name {
			return &f.Profiles[i]
		}
	}
	return nil
}

func (f *profileFile) missing(name string) error {
	return fmt.Errorf("no profile is called %q; `millrace profile list` shows %d, `millrace profile create %s` makes it", name, len(f.Profiles), name)
}

func (a *app) profileNames() (names []string) {
	f, _, _ := a.readProfiles()
	for _, p := range f.Profiles {
		names = append(names, p.Name)
	}
	return names
}

// chosenProfile is the one of --profile, MILLRACE_PROFILE or `profile use`.
func (a *app) chosenProfile(f *profileFile) string {
	if a.flags.profile != "" {
		return a.flags.profile
	}
	if name := a.env("MILLRACE_PROFILE"); name != "" {
		return name
	}
	return f.Current
}

func (a *app) fromProfile(s *settings) error {
	if a.flags.ignore {
		return nil
	}
	f, path, err := a.readProfiles()
	if err != nil {
		if path == "" && a.flags.profile == "" {
			return nil // no home: no profiles
		}
		return err
	}
	name := a.chosenProfile(&f)
	if name == "" {
		return nil
	}
	p := f.find(name)
	if p == nil {
		return f.missing(name)
	}
	for _, key := range slices.Sorted(maps.Keys(p.Options)) {
		if err := s.take(key, p.Options[key], "profile "+name); err != nil {
			return err
		}
	}
	return nil
}
