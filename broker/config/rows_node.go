package config

import "github.com/millrace-io/millrace/broker/model"

// auto is what "auto" stands for in a row that allows it.
func auto(n int64) *int64 { return &n }

// nodeRows declares the node scope. Every row is a flag of `millrace start`
// unless NoFlag; all take effect at the next start.
func nodeRows() []Row {
	rows := append(append(machineRows(), listenRows()...), storageRows()...)
	rows = append(append(rows, limitRows()...), sidecarRows()...)
	for i := range rows {
		rows[i].Restart = true
	}
	return rows
}

func machineRows() []Row {
	return []Row{
		{Name: "node_id", Kind: KindInt, Default: Auto, Min: "0", AutoValue: auto(int64(model.NoNode)), Short: "ID",
			Doc:  "This node's number in the cluster. A data directory belongs to one node for ever: auto is the one it has; of a new one, the seed's whose address is this node's, else the next that is free in the cluster of the seeds, and 0 without seeds.",
			node: func(n *Node, v value) { n.ID = model.NodeID(v.n) }},
		{Name: "data_dir", Kind: KindString, Default: "millrace-data", Short: "DIR",
			Doc:  "Where everything is stored. In prod mode the default is /var/lib/millrace.",
			node: func(n *Node, v value) { n.DataDir = v.text }},
		{Name: "mode", Kind: KindString, Default: string(ModeDev), Values: []string{string(ModeDev), string(ModeProd)}, Short: "dev|prod",
			Doc:  "dev suits a laptop and a test: cores are shared, nothing is reserved, the machine is not checked. prod checks the machine and refuses what loses data.",
			node: func(n *Node, v value) { n.Mode = Mode(v.text) }},
		{Name: "rack", Kind: KindString, Short: "NAME",
			Doc:  "Where this node stands, as clients see it.",
			node: func(n *Node, v value) { n.Rack = v.text }},
		{Name: "smp", Kind: KindInt, Default: Auto, Min: "1", Max: "1024", AutoValue: auto(0), Short: "N",
			Doc:  "Cores to use; auto is all that the process may use.",
			node: func(n *Node, v value) { n.SMP = int(v.n) }},
		{Name: "memory", Kind: KindBytes, Default: Auto, Min: "128M", AutoValue: auto(0), Short: "SIZE",
			Doc:  "Memory the process may use; auto is what the machine or container has, less reserve_memory.",
			node: func(n *Node, v value) { n.Memory = v.n }},
		{Name: "reserve_memory", Kind: KindBytes, Default: Auto, AutoValue: auto(-1), Short: "SIZE",
			Doc:  "Memory left to others when memory is auto; auto is the larger of 1.5 GiB and 7 % of what there is, and 0M in dev mode.",
			node: func(n *Node, v value) { n.ReserveMemory = v.n }},
		{Name: "overprovisioned", Kind: KindBool, Default: "false",
			Doc:  "This process shares its cores with others. The default is true in dev mode.",
			node: func(n *Node, v value) { n.Overprovisioned = v.flag }},
		{Name: "check", Kind: KindBool, Default: "true",
			Doc:  "Refuse to start on a machine that fails the checks. The default is false in dev mode.",
			node: func(n *Node, v value) { n.Check = v.flag }},
		{Name: "log_level", Kind: KindString, Default: "info", Values: []string{"debug", "info", "warn", "error"}, Short: "LEVEL",
			Doc:  "Least severity that is logged, on stderr.",
			node: func(n *Node, v value) { n.LogLevel = v.text }},
		{Name: "log_format", Kind: KindString, Default: "text", Values: []string{"text", "json"}, Short: "text|json",
			Doc:  "Form of a log line.",
			node: func(n *Node, v value) { n.LogFormat = v.text }},
	}
}

func listenRows() []Row {
	const short, shortNamed = "HOST:PORT", "[NAME://]HOST:PORT,..."
	return []Row{
		{Name: "kafka_addr", Kind: KindListeners, Default: "127.0.0.1:9092", Short: shortNamed,
			Doc:  "Where Kafka clients connect: one listener, or several with names, of which one may have none. Port 0 picks a free one, off disables; so for every address.",
			node: func(n *Node, v value) { n.Kafka = v.listeners }},
		{Name: "advertise_kafka_addr", Kind: KindListeners, Short: shortNamed,
			Doc:  "Address that Kafka clients are told, by the name of the listener that they came in by; of one that is not named here, the one listened on.",
			node: func(n *Node, v value) { n.AdvertiseKafka = v.listeners }},
		{Name: "rpc_addr", Kind: KindAddress, Default: "127.0.0.1:33145", Short: short,
			Doc:  "Where other nodes connect.",
			node: func(n *Node, v value) { n.RPC = v.addr }},
		{Name: "advertise_rpc_addr", Kind: KindAddress, Short: short,
			Doc:  "Address that other nodes are told; empty is the one listened on.",
			node: func(n *Node, v value) { n.AdvertiseRPC = v.addr }},
		{Name: "seeds", Kind: KindList, Short: "ID@HOST:PORT,...",
			Doc:   "The nodes that form the cluster, with their ids and the addresses where other nodes connect; the same list on each of them, at every start. A node that is not among them joins their cluster. Empty is a cluster of this node alone.",
			check: checkSeeds,
			node:  func(n *Node, v value) { n.Seeds = seedsOf(v.list) }},
		{Name: "rpc_tls_cert", Kind: KindString, NoFlag: true,
			Doc:  "Certificate, in PEM, that this node shows to others and they to it. Given with its key and the authorities, nodes talk by mutual TLS; read again when it changes.",
			node: func(n *Node, v value) { n.RPCCert = v.text }},
		{Name: "rpc_tls_key", Kind: KindString, NoFlag: true,
			Doc:  "File of the key of rpc_tls_cert.",
			node: func(n *Node, v value) { n.RPCKey = v.text }},
		{Name: "rpc_tls_ca", Kind: KindString, NoFlag: true,
			Doc:  "File of the authorities that other nodes' certificates must come from.",
			node: func(n *Node, v value) { n.RPCCA = v.text }},
		{Name: "admin_addr", Kind: KindAddress, Default: "127.0.0.1:9644", Short: short,
			Doc:  "Where the admin API and metrics are served. Keep it on loopback: it asks for no login.",
			node: func(n *Node, v value) { n.Admin = v.addr }},
		{Name: "proxy_addr", Kind: KindAddress, Default: "off", Short: short,
			Doc:  "Where the HTTP proxy is served. There is none yet: an address is only logged.",
			node: func(n *Node, v value) { n.Proxy = v.addr }},
		{Name: "registry_addr", Kind: KindAddress, Default: "off", Short: short,
			Doc:  "Where the schema registry is served. There is none yet: an address is only logged.",
			node: func(n *Node, v value) { n.Registry = v.addr }},
	}
}

func storageRows() []Row {
	return []Row{
		{Name: "flush_delay", Kind: KindMillis, Default: "1m", Min: "1ms", Max: "1h", NoFlag: true,
			Doc:  "How long what a partition has appended may wait in memory for its flush to the segments; acknowledged records are safe in the Raft log meanwhile. Less than a 16th of flush_bytes waits 8 to 16 times as long. More means fewer writes for many partitions of few records, and longer replay after a crash.",
			node: func(n *Node, v value) { n.Flush = v.millis() }},
		{Name: "flush_bytes", Kind: KindBytes, Default: "4M", Min: "64K", Max: "1G", NoFlag: true,
			Doc:  "Bytes appended by a partition that start its flush before flush_delay; half of it to all of it, drawn anew for each, so that partitions of one rate are not due together.",
			node: func(n *Node, v value) { n.FlushBytes = v.n }},
		{Name: "snapshot_bytes", Kind: KindBytes, Default: "64M", Min: "1M", Max: "16G", NoFlag: true,
			Doc:  "Raft log bytes of a partition beyond which its log is let go up to the checkpoint. More means longer replay after a crash.",
			node: func(n *Node, v value) { n.SnapshotBytes = v.n }},
		{Name: "snapshot_entries", Kind: KindInt, Default: "100000", Min: "100", NoFlag: true,
			Doc:  "Raft log entries of a partition beyond which its log is let go up to the checkpoint.",
			node: func(n *Node, v value) { n.SnapshotEntries = v.n }},
		{Name: "journal_file_bytes", Kind: KindBytes, Default: "64M", Min: "4M", Max: "256M", NoFlag: true,
			Doc:  "Size of one file of the Raft log; at most a 64th of the file system, and of --memory a 16th.",
			node: func(n *Node, v value) { n.JournalFileBytes = v.n }},
		{Name: "journal_bytes_max", Kind: KindBytes, Default: "2G", Min: "16M", NoFlag: true,
			Doc:  "Size of all files of the Raft log, at most an eighth of the file system. From half of it on, partitions that need old files are made to let them go.",
			node: func(n *Node, v value) { n.JournalBytesMax = v.n }},
		{Name: "scrub_period", Kind: KindMillis, Default: "168h", Min: "1s", NoFlag: true,
			Doc:  "Within how long every stored byte is read and checked, over and over. What cannot be read is repaired from another node that has it.",
			node: func(n *Node, v value) { n.ScrubPeriod = v.millis() }},
		{Name: "recovery_rate", Kind: KindBytes, Default: "64M", Min: "64K", NoFlag: true,
			Doc:  "Bytes a second that this node takes from others for partitions that are far behind.",
			node: func(n *Node, v value) { n.RecoveryRate = v.n }},
		{Name: "housekeep_every", Kind: KindMillis, Default: "10s", Min: "10ms", Max: "1h", NoFlag: true,
			Doc:  "How often a loop looks at each partition for what retention and compaction make due.",
			node: func(n *Node, v value) { n.HousekeepEvery = v.millis() }},
		{Name: "low_space_guard", Kind: KindBytes, Default: "256M", Min: "0", NoFlag: true,
			Doc:  "Free bytes of the data directory's file system below which writes are refused, until there is room again.",
			node: func(n *Node, v value) { n.LowSpaceGuard = v.n }},
		{Name: "low_space_reserve", Kind: KindBytes, Default: "64M", Min: "0", NoFlag: true,
			Doc:  "Size of the reserve file, given up when others fill the disk below the guard.",
			node: func(n *Node, v value) { n.LowSpaceReserve = v.n }},
		{Name: "shutdown_max", Kind: KindMillis, Default: "30s", Min: "100ms", Max: "10m", NoFlag: true,
			Doc:  "How long a stop may drain before it closes what is left.",
			node: func(n *Node, v value) { n.ShutdownMax = v.millis() }},
	}
}

func limitRows() []Row {
	return []Row{
		{Name: "cache_percent", Kind: KindInt, Default: "12", Min: "0", Max: "60", NoFlag: true,
			Doc:  "Per cent of memory for what is read again: half for recent batches and the ends of segments, half for blocks read of older ones.",
			node: func(n *Node, v value) { n.CachePercent = int(v.n) }},
		{Name: "write_percent", Kind: KindInt, Default: "10", Min: "1", Max: "40", NoFlag: true,
			Doc:  "Per cent of memory for what segments have not written yet; beyond it producers wait for the device.",
			node: func(n *Node, v value) { n.WritePercent = int(v.n) }},
		{Name: "request_percent", Kind: KindInt, Default: "15", Min: "1", Max: "60", NoFlag: true,
			Doc:  "Per cent of memory for requests in flight; beyond it their senders wait.",
			node: func(n *Node, v value) { n.RequestPercent = int(v.n) }},
		{Name: "response_percent", Kind: KindInt, Default: "15", Min: "1", Max: "60", NoFlag: true,
			Doc:  "Per cent of memory for responses in flight; beyond it readers wait for slower ones.",
			node: func(n *Node, v value) { n.ResponsePercent = int(v.n) }},
		{Name: "connections_max", Kind: KindInt, Default: "10000", Min: "1", Max: "1000000", NoFlag: true,
			Doc:  "Kafka connections that may be open; the next is closed at once.",
			node: func(n *Node, v value) { n.ConnectionsMax = int(v.n) }},
		{Name: "connection_idle", Kind: KindMillis, Default: "10m", Min: "1s", Max: "24h", NoFlag: true,
			Doc:  "How long a Kafka connection may be silent before it is closed.",
			node: func(n *Node, v value) { n.ConnectionIdle = v.millis() }},
		{Name: "frame_max", Kind: KindBytes, Default: "100M", Min: "64K", Max: "1G", NoFlag: true,
			Doc:  "Largest Kafka request. One that announces more is refused, and its connection closed.",
			node: func(n *Node, v value) { n.FrameBytesMax = int(v.n) }},
		{Name: "frame_max_before_auth", Kind: KindBytes, Default: "512K", Min: "1K", Max: "100M", NoFlag: true,
			Doc:  "Largest request of a client that has not logged in yet, where a login is asked.",
			node: func(n *Node, v value) { n.FrameBytesMaxBeforeAuth = int(v.n) }},
	}
}

func sidecarRows() []Row {
	return []Row{
		{Name: "sidecar", Kind: KindString, Default: SidecarChild, Short: "child|off|unix:PATH",
			Doc:   "child launches the sidecar, unix:PATH attaches to one deployed on its own, off runs without transforms.",
			check: checkSidecar,
			node:  func(n *Node, v value) { n.Sidecar = v.text }},
		{Name: "sidecar_bin", Kind: KindString, Short: "FILE",
			Doc:  "Executable of a child sidecar; empty looks for millrace-sidecar beside this executable, then in PATH.",
			node: func(n *Node, v value) { n.SidecarBin = v.text }},
		{Name: "sidecar_cache", Kind: KindString, NoFlag: true,
			Doc:  "Where a child sidecar keeps compiled modules; empty is sidecar in the data directory.",
			node: func(n *Node, v value) { n.SidecarCache = v.text }},
		{Name: "sidecar_memory", Kind: KindBytes, Default: "1G", Min: "64M", NoFlag: true,
			Doc:  "Memory that a child sidecar may use in all.",
			node: func(n *Node, v value) { n.SidecarMemory = v.n }},
	}
}

func checkSidecar(v value) string {
	switch {
	case v.text == SidecarChild, v.text == SidecarOff:
		return ""
	case len(v.text) > len(sidecarUnix) && v.text[:len(sidecarUnix)] == sidecarUnix:
		return ""
	}
	return "want child, off or unix:PATH"
}

// modeDefaults are the defaults that a mode changes.
func modeDefaults(m Mode) map[string]string {
	if m == ModeProd {
		return map[string]string{"data_dir": "/var/lib/millrace"}
	}
	return map[string]string{"overprovisioned": "true", "check": "false", "reserve_memory": "0M"}
}
