#!/usr/bin/env bash
# Three nodes as one side of the benchmarks, in the foreground: data in PEER_DIR, Kafka
# API of the first on 127.0.0.1:PEER_PORT, of the others on the ports 10 and 20 behind
# it. A node that ends is started again, unless PEER_DIR/N.down is there; PEER_DIR/N.pid
# holds its process.
#
#   nodes.sh millrace [FLAG...]     three of MILLRACE; flags besides those of a benchmark
#   nodes.sh kafka [KEY=VALUE...]   three of kafka.sh
set -u
: "${PEER_DIR:?}" "${PEER_PORT:?}"
here=$(cd "$(dirname "$0")" && pwd)
kind=$1
shift
seeds= voters=
for n in 0 1 2; do
  mkdir -p "$PEER_DIR/$n"
  seeds+=,$n@127.0.0.1:$((PEER_PORT + 10 * n + 2))
  voters+=,$((n + 1))@127.0.0.1:$((PEER_PORT + 10 * n + 1))
done

start() { # node, and what follows: in place of this shell
  local n=$1 port=$((PEER_PORT + 10 * $1))
  shift
  case $kind in
  millrace)
    exec "${MILLRACE:?}" start --mode dev --node-id "$n" --seeds "${seeds#,}" --data-dir "$PEER_DIR/$n/data" --memory 1G \
      --kafka-addr "127.0.0.1:$port" --admin-addr 127.0.0.1:0 --proxy-addr off --registry-addr off --sidecar off \
      --set default.replication.factor=3 "$@" >>"$PEER_DIR/$n/out.log" 2>&1
    ;;
  kafka)
    PEER_DIR=$PEER_DIR/$n PEER_PORT=$port PEER_ID=$((n + 1)) PEER_VOTERS=${voters#,} exec "$here/kafka.sh" "$@"
    ;;
  esac
}

keep() { # a node, started again until this loop is ended
  local pid
  trap 'kill "$pid"; wait "$pid"; exit' TERM
  while :; do
    (start "$@") &
    pid=$!
    echo "$pid" >"$PEER_DIR/$1.pid"
    wait "$pid"
    sleep 0.5
    while [[ -e "$PEER_DIR/$1.down" ]]; do sleep 0.1; done
  done
}

loops=()
for n in 0 1 2; do
  keep "$n" "$@" &
  loops+=($!)
done
trap 'kill "${loops[@]}"; wait; exit' TERM INT
wait
