package main

import (
	"archive/tar"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	dataPackage = "vega-datasets@2.11.0"
	dataArchive = "vega-datasets-2.11.0.tgz"
	// fileBytesMax bounds what is unpacked of one file.
	fileBytesMax = 64 << 20
)

// record is what is fed to a topic.
type record struct {
	key, value []byte
}

// fetchData gets the package once, with npm, into dir.
func fetchData(dir string) (quakes, strikes []record, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	archive := filepath.Join(dir, dataArchive)
	if _, err := os.Stat(archive); errors.Is(err, os.ErrNotExist) {
		if _, err := exec.LookPath("npm"); err != nil {
			return nil, nil, fmt.Errorf("the demo's data come from the npm registry: install npm, or put %s into %s: %w", dataArchive, dir, err)
		}
		fmt.Printf("fetching %s from the npm registry\n", dataPackage)
		cmd := exec.Command("npm", "pack", dataPackage, "--pack-destination", dir, "--silent")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("npm pack %s: %w\n%s", dataPackage, err, out)
		}
	}
	files, err := unpack(archive, "package/data/earthquakes.json", "package/data/birdstrikes.csv")
	if err != nil {
		return nil, nil, err
	}
	if quakes, err = readQuakes(files["package/data/earthquakes.json"]); err != nil {
		return nil, nil, fmt.Errorf("earthquakes: %w", err)
	}
	if strikes, err = readStrikes(files["package/data/birdstrikes.csv"]); err != nil {
		return nil, nil, fmt.Errorf("birdstrikes: %w", err)
	}
	return quakes, strikes, nil
}

func unpack(archive string, names ...string) (map[string][]byte, error) {
	f, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if h.Name == n {
				if files[n], err = io.ReadAll(io.LimitReader(r, fileBytesMax)); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, n := range names {
		if files[n] == nil {
			return nil, fmt.Errorf("%s has no %s", archive, n)
		}
	}
	return files, nil
}

// readQuakes makes a record of each feature, keyed by its id.
func readQuakes(b []byte) ([]record, error) {
	var feed struct {
		Features []json.RawMessage `json:"features"`
	}
	if err := json.Unmarshal(b, &feed); err != nil {
		return nil, err
	}
	records := make([]record, 0, len(feed.Features))
	for _, raw := range feed.Features {
		var f struct {
			ID string `json:"id"`
		}
		if err := json.Unmarshal(raw, &f); err != nil {
			return nil, err
		}
		records = append(records, record{key: []byte(f.ID), value: raw})
	}
	return records, nil
}

// readStrikes makes a JSON record of each line, keyed by its airport.
func readStrikes(b []byte) ([]record, error) {
	rows, err := csv.NewReader(newReader(b)).ReadAll()
	if err != nil {
		return nil, err
	}
	head := rows[0]
	records := make([]record, 0, len(rows)-1)
	for _, row := range rows[1:] {
		m := make(map[string]string, len(row))
		for i, v := range row {
			m[head[i]] = v
		}
		v, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		records = append(records, record{key: []byte(m["Airport Name"]), value: v})
	}
	return records, nil
}
