package config

import "time"

// Balance is how the cluster balances on its own.
type Balance struct {
	Paused      bool
	MovesMax    int           // partitions under way at a time
	GoneAfter   time.Duration // of silence, until a node's replicas are brought elsewhere
	DiskPercent int           // of a disk that may be used
}

func balanceRows() []Row {
	return []Row{
		{Name: "millrace.balance.paused", Kind: KindBool, Default: "false",
			Doc:     "Whether the cluster leaves replicas and leaders where they are, until somebody moves them. See `millrace cluster balance`.",
			cluster: func(c *Cluster, v value) { c.Balance.Paused = v.flag }},
		{Name: "millrace.balance.moves.max", Kind: KindInt, Default: "8", Min: "1", Max: "1000",
			Doc:     "Partitions that balance moves at a time. What others move counts too, except while replicas of a node that is gone are made anew. recovery_rate bounds the bytes.",
			cluster: func(c *Cluster, v value) { c.Balance.MovesMax = int(v.n) }},
		{Name: "millrace.balance.gone.ms", Kind: KindMillis, Default: "900000", Min: "1000",
			Doc:     "How long a node may say nothing until its replicas are made anew on others, in milliseconds.",
			cluster: func(c *Cluster, v value) { c.Balance.GoneAfter = v.millis() }},
		{Name: "millrace.balance.disk.percent", Kind: KindInt, Default: "80", Min: "10", Max: "95",
			Doc:     "Part of a node's disk, in percent, beyond which partitions are brought to nodes that have room.",
			cluster: func(c *Cluster, v value) { c.Balance.DiskPercent = int(v.n) }},
	}
}
