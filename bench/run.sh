#!/usr/bin/env bash
# Millrace and Apache Kafka 4.3.1 side by side, in one run: what `make bench` does.
# The table goes to stdout and into docs/BENCHMARKS.md.
#
#   run.sh [FLAG...]
#
#   -only LIST         measurements, comma separated (all of these if not given):
#                        start      start to first ack, of every run that has sides up
#                        serial     one producer, one record in flight, one partition
#                        ack        2,000, 10,000 and 20,000 records/s over 16 partitions
#                        e2e        end to end at 1,000/s
#                        bulk       produce and consume by volume
#                        transform  drain, through and sync, which can be named alone
#                        many       one broker at a time with many partitions
#                        gap        kill -9 of a leader and a rolling restart; needs NODES=3
#                        idle       CPU of three nodes with 1,024 partitions that nobody asks; needs NODES=3
#                        move       time to bring bulk-bytes to other nodes; needs NODES=3
#                        dies       time until all of many partitions are led after a node's death; needs NODES=3
#                        crowd      acknowledgements beside 300 slow connections, little memory; not run if not named
#   -runs 3            how often each is repeated, sides in turn
#   -time 10s          length of one latency run
#   -bulk-bytes 4294967296
#                      volume of a bulk run; below 4 GiB it says little. The sync rows write an eighth of it
#   -backlog 2000000   records that a script drains
#   -scripts LIST      js-filter-first, js-parse-all, go (async); js, go (sync); all if not given
#   -many 4096         partitions of many on Millrace, and of dies on each side
#   -many-peer 0       partitions of many on Kafka synced, for example 1024; 0 leaves it out
#   -dir DIR           where data goes (a temporary directory)
#
#   A short run: run.sh -runs 1 -time 5s -bulk-bytes 536870912 -backlog 500000 -only drain,through
#
#   MILLRACE     the broker's executable (bin/millrace)
#   KAFKA_LIBS   a directory with Kafka's jars (else fetched by Maven into build/kafka)
#   PEERS=0      no peer: Millrace alone
#   NODES=3      three nodes each side, three replicas: -only some of serial, ack, e2e, bulk, gap, idle, move, dies
#   RECORD=0     leave docs/BENCHMARKS.md as it is
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
millrace=${MILLRACE:-$root/bin/millrace}
page=$root/docs/BENCHMARKS.md
mkdir -p "$root/build"
table=$(mktemp)
trap 'rm -f "$table"' EXIT

peers=()
if [[ ${PEERS:-1} != 0 ]]; then
  export KAFKA_LIBS=${KAFKA_LIBS:-$root/build/kafka}
  if ! ls "$KAFKA_LIBS"/kafka_2.13-*.jar >/dev/null 2>&1; then
    echo "bench: fetching Apache Kafka 4.3.1 with Maven into $KAFKA_LIBS" >&2
    mvn -q -B -f "$root/test/compat/pom.xml" dependency:copy-dependencies -DoutputDirectory="$KAFKA_LIBS" -DincludeScope=runtime >&2
  fi
  peers=(-peer "'$here/kafka.sh'" -peer-synced "'$here/kafka.sh' log.flush.interval.messages=1")
fi
nodes=()
if [[ ${NODES:-1} == 3 ]]; then
  export MILLRACE=$millrace RECORD=0
  nodes=(-nodes "'$here/nodes.sh' millrace")
  ((${#peers[@]})) && peers=(-peer "'$here/nodes.sh' kafka" -peer-synced "'$here/nodes.sh' kafka log.flush.interval.messages=1")
fi
cd "$root"
go run ./bench -millrace "$millrace" "${nodes[@]}" "${peers[@]}" "$@" | tee "$table"

if [[ ${RECORD:-1} != 0 ]]; then
  # Between the marks of the page; what is around them is written by hand.
  {
    sed '/<!-- figures -->/q' "$page"
    echo
    echo "$(nproc) processors, $(awk '/MemTotal/ {printf "%.0f GiB", $2 / 1048576}' /proc/meminfo), commit $(git -C "$root" rev-parse --short HEAD), flags: \`${*:-none}\`. Median, and the range of all runs."
    echo
    cat "$table"
    echo
    sed -n '/<!-- end of figures -->/,$p' "$page"
  } >"$page.new"
  mv "$page.new" "$page"
fi
