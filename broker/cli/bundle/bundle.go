package bundle

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/millrace-io/millrace/broker/admin/client"
)

const (
	// fileBytesMax bounds a file but for logs; the rest of it is left out.
	fileBytesMax = 64 << 20
	// askTimeMax bounds one question to a broker, or to the machine.
	askTimeMax = 30 * time.Second
)

// Options says what is asked, and how.
type Options struct {
	// Admin opens a client of these addresses, or of the usual ones if none is given.
	Admin func(addrs ...string) (*client.Client, error)
	// Kafka opens a client of the Kafka API.
	Kafka func(ctx context.Context) (*kadm.Client, error)
	// Interval lies between the two readings of the metrics; CPU is how long the
	// processors are watched meanwhile, 0 being not at all.
	Interval, CPU time.Duration
	// LogUnit is the systemd unit whose log is taken, from LogsSince on, at most LogBytesMax.
	LogUnit, LogsSince string
	LogBytesMax        int64
	// DataDir is listed, by name and size. Empty: those of nodes that live on this machine.
	DataDir string
	// Root is where the machine's files are; "/".
	Root    string
	Version string
	// Say, if set, is told what is being done.
	Say func(format string, args ...any)
}

// Summary is what was written.
type Summary struct {
	Files  int      `json:"files"`
	Errors []string `json:"errors"` // what could not be had
}

// bundle is one being written. It belongs to who calls Write.
type bundle struct {
	Options
	zip     *zip.Writer
	began   time.Time
	summary Summary
	// err is the zip's own: all is in vain then.
	err error
}

// Write writes a bundle to out. An error is out's, or ctx has ended.
func Write(ctx context.Context, out io.Writer, o Options) (Summary, error) {
	b := &bundle{Options: o, zip: zip.NewWriter(out), began: time.Now(), summary: Summary{Errors: []string{}}}
	if b.Say == nil {
		b.Say = func(string, ...any) {}
	}
	for _, part := range []func(context.Context){b.about, b.cluster, b.kafka, b.nodes, b.machine, b.logs} {
		if ctx.Err() != nil {
			return b.summary, ctx.Err()
		}
		part(ctx)
	}
	b.file("errors.txt", func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(append(b.summary.Errors, ""), "\n"))
		return err
	})
	return b.summary, errors.Join(b.err, b.zip.Close())
}

// about says what this is.
func (b *bundle) about(context.Context) {
	b.json("bundle.json", func() (any, error) {
		return map[string]any{"format": 1, "written_by": b.Version, "began": b.began.UTC().Format(time.RFC3339)}, nil
	})
}

// missing notes what could not be had.
func (b *bundle) missing(what string, err error) {
	b.summary.Errors = append(b.summary.Errors, strings.ReplaceAll(fmt.Sprintf("%s: %v", what, err), "\n", " "))
}

// capped keeps what fits.
type capped struct {
	bytes.Buffer
	left int64
	cut  bool
}

// Write takes everything, and keeps what there is room for.
func (c *capped) Write(p []byte) (int, error) {
	n := min(int64(len(p)), c.left)
	c.cut = c.cut || n < int64(len(p))
	c.left -= n
	c.Buffer.Write(p[:n])
	return len(p), nil
}

// file adds what fill writes. What came before an error is kept.
func (b *bundle) file(name string, fill func(w io.Writer) error) { b.fileOf(name, fileBytesMax, fill) }

func (b *bundle) fileOf(name string, bytesMax int64, fill func(w io.Writer) error) {
	c := &capped{left: bytesMax}
	switch err := fill(c); {
	case err != nil:
		b.missing(name, err)
	case c.Len() == 0 && name != "errors.txt":
		b.missing(name, errors.New("there is nothing in it"))
	}
	if c.cut {
		b.missing(name, fmt.Errorf("it is longer than %d bytes: the rest is left out", bytesMax))
	}
	b.add(name, c.Bytes())
}

// add puts a file into the zip, unless it is empty and something else than errors.
func (b *bundle) add(name string, content []byte) {
	if b.err != nil || len(content) == 0 && name != "errors.txt" {
		return
	}
	w, err := b.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Now()})
	if err == nil {
		_, err = w.Write(content)
	}
	if err != nil {
		b.err = fmt.Errorf("write %s: %w", name, err)
		return
	}
	b.summary.Files++
}

// json adds an answer.
func (b *bundle) json(name string, ask func() (any, error)) {
	b.file(name, func(w io.Writer) error {
		v, err := ask()
		if err != nil {
			return err
		}
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		return e.Encode(v)
	})
}
