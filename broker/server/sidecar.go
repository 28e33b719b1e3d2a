package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/millrace-io/millrace/broker/config"
	"github.com/millrace-io/millrace/broker/script"
	"github.com/millrace-io/millrace/plugins"
	"github.com/millrace-io/millrace/plugins/control"
)

// sidecarName is the sidecar's executable.
const sidecarName = "millrace-sidecar"

// session names this start of this node to its sidecar.
func session(n config.Node) control.Session {
	var boot [8]byte
	_, _ = rand.Read(boot[:]) // never fails: see crypto/rand
	return control.Session{Node: n.ID, Boot: hex.EncodeToString(boot[:])}
}

// connectSidecar says how this node gets a sidecar, each time it needs one; nil:
// it runs without.
func (s *Server) connectSidecar() func(context.Context) (script.Sidecar, error) {
	if s.n.Sidecar == config.SidecarOff {
		return nil
	}
	return func(ctx context.Context) (script.Sidecar, error) {
		link, err := s.sidecarLink(ctx)
		if err != nil {
			return script.Sidecar{}, err
		}
		return script.FromPlugins(link), nil
	}
}

func (s *Server) sidecarLink(ctx context.Context) (*plugins.Sidecar, error) {
	if path, ok := strings.CutPrefix(s.n.Sidecar, "unix:"); ok {
		return plugins.Attach(ctx, plugins.AttachAsk{Socket: path})
	}
	binary, err := findSidecar(s.n.SidecarBin)
	if err != nil {
		return nil, err
	}
	return plugins.Launch(ctx, plugins.LaunchAsk{
		Path: binary, CacheDir: s.n.SidecarCache, Stderr: os.Stderr,
		Args: []string{
			"--memory", strconv.FormatInt(s.n.SidecarMemory, 10),
			"--workers", strconv.Itoa(s.node.cores),
		},
	})
}

// findSidecar looks where a package or a build puts it: beside this executable,
// then in PATH.
func findSidecar(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own executable: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), sidecarName)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath(sidecarName)
	if err != nil {
		return "", errors.Join(fmt.Errorf("%s is neither beside %s nor in PATH: name it with --sidecar-bin, or start with --sidecar off", sidecarName, self), err)
	}
	return path, nil
}
