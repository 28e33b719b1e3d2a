package config

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write generated files anew")

const documentFile = "../../docs/CONFIG.md"

func TestDocumentIsUpToDate(t *testing.T) {
	want := Document()
	if *rewrite {
		if err := os.WriteFile(documentFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(documentFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("docs/CONFIG.md is stale (%v): go test ./broker/config -rewrite", err)
	}
}

func TestTopicDefaultsAreKafkas(t *testing.T) {
	got, err := ResolveTopic(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Topic{
		Delete: true, RetentionTime: 7 * 24 * time.Hour, RetentionBytes: -1,
		LocalRetentionTime: -2 * time.Millisecond, LocalRetentionBytes: -2,
		SegmentBytes: 1 << 30, SegmentTime: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, IndexIntervalBytes: 4096,
		FileDeleteDelay: time.Minute, FlushMessages: math.MaxInt64, FlushTime: math.MaxInt64,
		MessageBytesMax: 1048588, Compression: "producer", CompressionLevel: CompressionLevels{Gzip: -1, LZ4: 9, Zstd: 3},
		TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: time.Hour, MinInsyncReplicas: 1,
		DeleteRetention: 24 * time.Hour, CompactionLagMax: math.MaxInt64, MinCleanableRatio: 0.5,
	}
	if got != want {
		t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

func TestTopicTakesOverrideThenClusterThenDefault(t *testing.T) {
	cluster := map[string]string{"log.retention.ms": "60000", "log.cleanup.policy": "compact", "num.partitions": "3"}
	got, err := ResolveTopic(map[string]string{"retention.ms": "-1"}, cluster)
	if err != nil {
		t.Fatal(err)
	}
	if got.RetentionTime >= 0 || !got.Compact || got.Delete || got.RetentionBytes != -1 {
		t.Fatalf("got %+v", got)
	}
}

func TestClusterDefaults(t *testing.T) {
	got, err := ResolveCluster(map[string]string{"num.partitions": "4", "log.retention.ms": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Partitions != 4 || got.Replication != 1 || !got.AutoCreateTopics || got.OffsetsPartitions != 16 || got.OffsetsRetention != 7*24*time.Hour || got.ScriptModuleBytes != 32<<20 {
		t.Fatalf("got %+v", got)
	}
	if _, err := ResolveCluster(map[string]string{"retention.ms": "1"}); !errors.Is(err, ErrUnknown) {
		t.Fatalf("a topic's name in cluster scope: %v", err)
	}
}

func TestCheckTopic(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"cleanup.policy", "compact, delete", nil},
		{"cleanup.policy", "", ErrInvalid},
		{"cleanup.policy", "compact,shred", ErrInvalid},
		{"retention.ms", "-1", nil},
		{"retention.ms", "-2", ErrInvalid},
		{"retention.ms", "7d", ErrInvalid},
		{"retention.ms", "9223372036854775808", ErrInvalid},
		{"segment.bytes", "2147483648", ErrInvalid},
		{"compression.type", "brotli", ErrInvalid},
		{"compression.gzip.level", "0", ErrInvalid},
		{"compression.gzip.level", "-1", nil},
		{"min.cleanable.dirty.ratio", "NaN", ErrInvalid},
		{"min.cleanable.dirty.ratio", "1.1", ErrInvalid},
		{"preallocate", "yes", ErrInvalid},
		{"preallocate", "TRUE", nil},
		{"remote.storage.enable", "true", ErrInvalid},
		{"remote.log.copy.disable", "true", nil},
		{"remote.log.delete.on.disable", "on", ErrInvalid},
		{"retention.mss", "1", ErrUnknown},
	} {
		if err := CheckTopic(c.name, c.value); !errors.Is(err, c.want) {
			t.Errorf("%s=%q: %v, want %v", c.name, c.value, err, c.want)
		}
	}
	if err := CheckTopic("retention.mss", "1"); !strings.Contains(err.Error(), `did you mean "retention.ms"?`) {
		t.Errorf("no hint: %v", err)
	}
}

func TestCheckTopicTogether(t *testing.T) {
	bad := map[string]string{"min.compaction.lag.ms": "10", "max.compaction.lag.ms": "5"}
	if err := CheckTopicTogether(bad, nil); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	if err := CheckTopicTogether(map[string]string{"retention.ms": "10", "local.retention.ms": "20"}, nil); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{"0M": 0, "512M": 512 << 20, "1G": 1 << 30, "1GiB": 1 << 30, "64k": 64 << 10, "2T": 2 << 40, "1048576": 1 << 20, "100B": 100} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5G", "1X", "9223372036854775807K"} {
		if got, err := ParseBytes(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is taken as %d", text, got)
		}
	}
}

func TestLoadTakesRedpandasFlags(t *testing.T) {
	n, err := Load(Sources{Flags: map[string]string{"overprovisioned": "true", "smp": "1", "memory": "1G", "reserve-memory": "0M", "node-id": "0", "check": "false"}})
	if err != nil {
		t.Fatal(err)
	}
	if !n.Overprovisioned || n.SMP != 1 || n.Memory != 1<<30 || n.ReserveMemory != 0 || n.ID != 0 || n.Check {
		t.Fatalf("got %+v", n)
	}
	if fmt.Sprint(n.Kafka) != "[127.0.0.1:9092]" || n.Flush != time.Minute || !filepath.IsAbs(n.DataDir) || n.Sidecar != SidecarChild {
		t.Fatalf("defaults: %+v", n)
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "millrace.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadPrecedence(t *testing.T) {
	file := write(t, "smp: 2\nnode_id: 2\nrack: file\nmemory: 256M\nmode: prod\n")
	s := Sources{File: file, Env: []string{"MILLRACE_SMP=3", "MILLRACE_NODE_ID=3", "MILLRACE_RACK=env", "PATH=/x"},
		Flags: map[string]string{"smp": "4", "node_id": "4"}, Set: []string{"smp=5"}}
	n, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	if n.SMP != 5 || n.ID != 4 || n.Rack != "env" || n.Memory != 256<<20 || n.Mode != ModeProd || n.DataDir != "/var/lib/millrace" || !n.Check || n.ReserveMemory != -1 {
		t.Fatalf("got %+v", n)
	}
	if n.Given["smp"].From != "set" || n.Given["rack"].From != "environment" || n.Given["memory"].From != "file" || n.Given["data_dir"].From != "mode" {
		t.Fatalf("given: %v", n.Given)
	}
}

func TestLoadFile(t *testing.T) {
	n, err := Load(Sources{File: write(t, "# ours\nnum.partitions: 3\nlog:\n  retention:\n    ms: 1000\n  cleanup.policy: [compact, delete]\nkafka_addr: \"[::1]:0\"\nregistry_addr: off\n"), Set: []string{"auto.create.topics.enable=false"}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"num.partitions": "3", "log.retention.ms": "1000", "log.cleanup.policy": "compact,delete", "auto.create.topics.enable": "false"}
	if len(n.Static) != len(want) || n.Static["log.cleanup.policy"] != want["log.cleanup.policy"] || n.Static["log.retention.ms"] != "1000" {
		t.Fatalf("static: %v", n.Static)
	}
	if fmt.Sprint(n.Kafka) != "[[::1]:0]" || !n.Registry.Off {
		t.Fatalf("addresses: %+v %+v", n.Kafka, n.Registry)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		s    Sources
		want []string
	}{
		"unknown key":       {Sources{File: write(t, "smp: 1\n\nsmpp: 2\n")}, []string{"line 3", `"smpp"`, `did you mean "smp"?`}},
		"nested":            {Sources{File: write(t, "log:\n  retention:\n    mss: 2\n")}, []string{"line 3", `"log.retention.mss"`}},
		"bad value":         {Sources{File: write(t, "memory: lots\n")}, []string{"line 1", "memory", "512M"}},
		"twice":             {Sources{File: write(t, "log.roll.ms: 1\nlog:\n  roll.ms: 2\n")}, []string{"line 3", "twice"}},
		"topic's":           {Sources{File: write(t, "retention.ms: 1\n")}, []string{"line 1", "log.retention.ms"}},
		"no mapping":        {Sources{File: write(t, "- smp\n")}, []string{"name: value"}},
		"no YAML":           {Sources{File: write(t, "smp: [1\n")}, []string{"yaml"}},
		"alias":             {Sources{File: write(t, "rack: &a x\nlog_level: *a\n")}, []string{"line 2", "plain value"}},
		"missing":           {Sources{File: "/nowhere/at/all"}, []string{"/nowhere/at/all"}},
		"flag":              {Sources{Flags: map[string]string{"smpp": "1"}}, []string{"--smpp", `"smp"`}},
		"flag value":        {Sources{Flags: map[string]string{"kafka-addr": "9092"}}, []string{"--kafka-addr", "HOST:PORT"}},
		"cluster as a flag": {Sources{Flags: map[string]string{"num.partitions": "1"}}, []string{"unknown setting"}},
		"set":               {Sources{Set: []string{"x"}}, []string{"NAME=VALUE"}},
		"env value":         {Sources{Env: []string{"MILLRACE_SMP=0"}}, []string{"MILLRACE_SMP", "the least is 1"}},
		"memory":            {Sources{Flags: map[string]string{"memory": "1M"}}, []string{"the least is 128M"}},
		"sidecar":           {Sources{Flags: map[string]string{"sidecar": "tcp:1"}}, []string{"unix:PATH"}},
		"half of TLS":       {Sources{Set: []string{"rpc_tls_cert=/a"}}, []string{"rpc_tls_key", "together"}},
		"a seed's form":     {Sources{Set: []string{"seeds=127.0.0.1:1"}}, []string{"ID@HOST:PORT"}},
		"a seed's port":     {Sources{Set: []string{"seeds=0@h:0"}}, []string{"ID@HOST:PORT", "dial"}},
		"two seeds":         {Sources{Set: []string{"seeds=0@h:1,1@h:2"}}, []string{"1, 3 or 5"}},
		"a seed twice":      {Sources{Set: []string{"seeds=0@h:1,1@h:2,1@h:3"}}, []string{"1@h:2", "1@h:3", "must differ"}},
		"joins in the open": {Sources{Set: []string{"mode=prod", "seeds=1@h:1"}}, []string{"rpc_tls_cert", "plaintext"}},
		"seeds in plain":    {Sources{Set: []string{"mode=prod", "seeds=0@h:1,1@h:2,2@h:3"}}, []string{"rpc_tls_cert", "dev mode"}},
		"shares":            {Sources{Set: []string{"cache_percent=60", "request_percent=60"}}, []string{"together"}},
		"mode":              {Sources{Flags: map[string]string{"mode": "fast"}}, []string{"dev, prod"}},
	} {
		_, err := Load(c.s)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q lacks %q", name, err, w)
			}
		}
	}
}

func TestLoadWarnsOfUnknownVariables(t *testing.T) {
	n, err := Load(Sources{Env: []string{"MILLRACE_SPM=1", "MILLRACE_BROKERS=x", "MILLRACE_BOOTED=1"}})
	if err != nil || len(n.Warnings) != 1 || !strings.Contains(n.Warnings[0], "MILLRACE_SPM") {
		t.Fatalf("%v, %v", n.Warnings, err)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	r := &Row{Name: "password", Kind: KindInt, Secret: true}
	_, err := r.parse("hunter2")
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), Hidden) {
		t.Fatalf("the refusal shows it: %v", err)
	}
	if r.Show("hunter2") != Hidden || r.Show("") != "" {
		t.Fatal("Show shows it")
	}
}

func TestDescribeGivesSynonyms(t *testing.T) {
	cluster := Layer{SourceCluster, map[string]string{"log.retention.ms": "5"}}
	static := Layer{SourceStatic, map[string]string{"log.retention.ms": "6"}}
	for _, v := range DescribeTopic(map[string]string{"retention.ms": "4"}, cluster, static) {
		if v.Row.Name != "retention.ms" {
			continue
		}
		want := []Synonym{{"retention.ms", "4", SourceTopic}, {"log.retention.ms", "5", SourceCluster}, {"log.retention.ms", "6", SourceStatic}, {"log.retention.ms", "604800000", SourceDefault}}
		if v.Value != "4" || v.Source != SourceTopic || len(v.Synonyms) != len(want) {
			t.Fatalf("got %+v", v)
		}
		for i := range want {
			if v.Synonyms[i] != want[i] {
				t.Fatalf("synonym %d: %+v, want %+v", i, v.Synonyms[i], want[i])
			}
		}
	}
	if n := len(DescribeCluster(cluster)); n != len(Rows(ScopeCluster)) {
		t.Fatalf("%d cluster settings described, %d declared", n, len(Rows(ScopeCluster)))
	}
}

// Names become environment variables and YAML paths: two must not meet there.
func TestNamesDoNotMeet(t *testing.T) {
	env := map[string]string{}
	for _, scope := range []Scope{ScopeNode, ScopeCluster} {
		for _, r := range Rows(scope) {
			if other, ok := env[r.Env()]; ok {
				t.Errorf("%s and %s are both %s", other, r.Name, r.Env())
			}
			env[r.Env()] = r.Name
			for _, o := range Rows(scope) {
				if strings.HasPrefix(o.Name, r.Name+".") {
					t.Errorf("%s is a prefix of %s: no nested file can hold both", r.Name, o.Name)
				}
			}
		}
	}
}

// A value that Check takes resolves, and nothing makes it panic.
func TestCheckedValuesResolve(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rapid.SampledFrom(Rows(ScopeTopic)).Draw(t, "row")
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`-?[0-9]{1,20}`), rapid.SampledFrom([]string{"true", "0.3", "compact,delete", r.Default})).Draw(t, "value")
		checked := CheckTopic(r.Name, text)
		_, err := ResolveTopic(map[string]string{r.Name: text}, nil)
		if (checked == nil) != (err == nil) {
			t.Fatalf("%s=%q: Check says %v, Resolve %v", r.Name, text, checked, err)
		}
	})
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("smp: 1\nlog:\n  roll.ms: 2\n"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := parseFile("f", b)
		for name, text := range values {
			if err == nil && checkStart(name, text) != nil {
				t.Fatalf("%s=%q is taken", name, text)
			}
		}
	})
}

// TestSeedsSayWhereThisNodeIs: the list is the same on all nodes, and says of each
// where it listens unless it is told otherwise.
func TestSeedsSayWhereThisNodeIs(t *testing.T) {
	const seeds = "2@c:3,0@a:1,1@b:2"
	n, err := Load(Sources{Flags: map[string]string{"seeds": seeds, "node-id": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Seed{{0, "a:1"}, {1, "b:2"}, {2, "c:3"}}; !slices.Equal(n.Seeds, want) {
		t.Errorf("seeds are %v, want %v", n.Seeds, want)
	}
	if n.RPC.String() != "b:2" || n.AdvertiseRPC.String() != "b:2" {
		t.Errorf("listens at %s, tells %s", n.RPC, n.AdvertiseRPC)
	}
	n, err = Load(Sources{Flags: map[string]string{"seeds": seeds, "node-id": "1", "rpc-addr": "0.0.0.0:9"}})
	if err != nil || n.RPC.String() != "0.0.0.0:9" || n.AdvertiseRPC.String() != "b:2" {
		t.Errorf("listens at %s, tells %s: %v", n.RPC, n.AdvertiseRPC, err)
	}
}

// TestSecretsAreMarked: a row whose name is that of a secret is never printed, unless it is
// known to hold something else.
func TestSecretsAreMarked(t *testing.T) {
	harmless := map[string]string{"rpc_tls_key": "the path of a file"}
	for _, scope := range []Scope{ScopeNode, ScopeCluster, ScopeTopic} {
		for _, r := range Rows(scope) {
			_, known := harmless[r.Name]
			if (LooksSecret(r.Name) || r.Kind == KindPassword) && !r.Secret && !known {
				t.Errorf("%s looks like a secret and is printed: mark it, or say here why it is none", r.Name)
			}
			if r.Secret && r.Show("hunter2") != Hidden {
				t.Errorf("%s is shown", r.Name)
			}
		}
	}
	for name, want := range map[string]bool{
		"sasl.password": true, "kafka_tls_key": true, "cloud_storage_secret_key": true, "Some.Token": true,
		"log.cleanup.policy": false, "compression.type": false, "keys.max": false,
	} {
		if LooksSecret(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
