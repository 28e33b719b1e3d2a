package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-io/millrace/broker/admin/api"
	"github.com/millrace-io/millrace/broker/admin/client"
)

// alone asks nobody.
func alone() Options {
	nobody := errors.New("nobody is asked")
	return Options{
		Admin: func(...string) (*client.Client, error) { return nil, nobody },
		Kafka: func(context.Context) (*kadm.Client, error) { return nil, nobody },
	}
}

// TestMachine: a broker's process is looked at, but not what it was started with; mounts
// tell no password.
func TestMachine(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{
		"proc/7/comm": "millrace\n", "proc/7/limits": "Max open files 1024", "proc/7/environ": "sentinel", "proc/7/cmdline": "--password sentinel",
		"proc/8/comm": "bash\n", "proc/8/limits": "of another",
		"proc/mounts": "//nas/x /x cifs rw,username=joe,password=sentinel,vers=3 0 0\n", "proc/sys/vm/swappiness": "60\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := alone()
	o.Root, o.DataDir = root, filepath.Join(root, "proc/7")
	var out bytes.Buffer
	done, err := Write(t.Context(), &out, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		all[f.Name] = string(b)
		if strings.Contains(string(b), "sentinel") {
			t.Errorf("%s tells a secret: %s", f.Name, b)
		}
	}
	if len(all) != done.Files || all["machine/processes/7/limits"] == "" || all["machine/processes/8/limits"] != "" {
		t.Errorf("%d files, %d told: %v", len(all), done.Files, all)
	}
	for name, has := range map[string]string{
		"machine/proc/mounts": "username=joe,password=[hidden],vers=3", "machine/sysctl.txt": "vm.swappiness = 60",
		"machine/data-dir.txt": "environ", "errors.txt": "machine/proc/cpuinfo: ",
	} {
		if !strings.Contains(all[name], has) {
			t.Errorf("%s: %s", name, all[name])
		}
	}
}

// TestBounded: a file that is too long is cut, and that is said.
func TestBounded(t *testing.T) {
	var out bytes.Buffer
	b := &bundle{zip: zip.NewWriter(&out)}
	b.fileOf("long", 10, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 100))
		return err
	})
	if b.summary.Files != 1 || len(b.summary.Errors) != 1 || !strings.Contains(b.summary.Errors[0], "longer than 10 bytes") {
		t.Errorf("%+v", b.summary)
	}
}

// TestBrokenDisk: what cannot be written is an error, unlike what cannot be read.
func TestBrokenDisk(t *testing.T) {
	if _, err := Write(t.Context(), broken{}, alone()); !errors.Is(err, errBroken) {
		t.Errorf("%v", err)
	}
}

var errBroken = errors.New("the disk is full")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

func TestAdminOf(t *testing.T) {
	for admin, want := range map[string]string{
		"10.0.0.1:9644": "10.0.0.1:9644", "0.0.0.0:9644": "kafka.example:9644", "[::]:9644": "kafka.example:9644", ":9644": "kafka.example:9644",
		"off": "", "": "", "nonsense": "",
	} {
		if got, err := adminOf(api.NodeInfo{Host: "kafka.example", Admin: admin}); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", admin, got, err)
		}
	}
}
