#!/usr/bin/env bash
# Millrace and Apache Kafka 4.3.1 side by side, in one run: what `make bench` does.
# The table goes to stdout and into docs/BENCHMARKS.md.
#
#   run.sh [FLAG...]    flags of the command in this folder, for example
#                       -runs 1 -time 5s -bulk-bytes 536870912 -backlog 500000 -only drain,through
#
#   MILLRACE     the broker's executable (bin/millrace)
#   KAFKA_LIBS   a directory with Kafka's jars (else fetched by Maven into build/kafka)
#   PEERS=0      no peer: Millrace alone
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
cd "$root"
go run ./bench -millrace "$millrace" "${peers[@]}" "$@" | tee "$table"

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
