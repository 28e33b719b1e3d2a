#!/usr/bin/env bash
# What `make bench` runs: Millrace beside Apache Kafka 4.3.1, in its default
# settings and with a sync before every acknowledgement, in one run. The jars
# come from Maven into build/. Arguments go to bench: -runs 1 -time 5s
# -bulk-bytes 1073741824 -backlog 200000 is a quick one.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
libs=${KAFKA_LIBS:-$root/build/compat/kafka-libs}
if ! ls "$libs"/kafka_2.13-4.3.1.jar >/dev/null 2>&1; then
  command -v mvn >/dev/null || { echo "bench: Maven is needed to fetch Apache Kafka" >&2; exit 1; }
  echo "bench: fetching Apache Kafka 4.3.1" >&2
  (cd "$root/test/compat" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$libs" -DincludeScope=runtime)
fi
export KAFKA_CP="$libs/*"
kafka="$root/bench/kafka.sh \"\$PEER_DIR\" \"\$PEER_PORT\""
cd "$root"
exec go run ./bench -peer "$kafka" -peer-synced "$kafka log.flush.interval.messages=1" "$@"
