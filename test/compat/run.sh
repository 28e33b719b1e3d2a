#!/usr/bin/env bash
# Third-party clients, unmodified, against a broker of ours. Each suite prints
# "ok NAME" or "FAIL NAME"; the exit code is the number that failed.
#
#   run.sh [SUITE...]     suites: kcat kafka-tools kafkajs confluent kafka-python aiokafka franz-go
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MILLRACE_COMPAT_CACHE:-$root/build/compat}
mkdir -p "$cache"
work=$(mktemp -d)
failed=0
broker=

stop() {
  [[ -n "$broker" ]] && kill "$broker" 2>/dev/null && wait "$broker" 2>/dev/null
  rm -rf "$work"
}
trap stop EXIT

start() {
  "$root/bin/millrace" start --mode dev --data-dir "$work/data" --kafka-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0 \
    --rpc-addr 127.0.0.1:0 --proxy-addr off --registry-addr off --sidecar off >"$work/ready" 2>"$work/broker.log" &
  broker=$!
  for _ in $(seq 300); do
    grep -q '^ready ' "$work/ready" && break
    kill -0 "$broker" 2>/dev/null || { cat "$work/broker.log"; exit 1; }
    sleep 0.1
  done
  export BROKERS
  BROKERS=$(sed -n 's/.* kafka=\([^ ]*\).*/\1/p' "$work/ready")
}

report() { # name, status
  if [[ $2 == 0 ]]; then echo "ok   $1"; else echo "FAIL $1 (see $cache/$1.log)"; failed=$((failed + 1)); fi
}

suite() { # name, command...
  local name=$1; shift
  "$@" >"$cache/$name.log" 2>&1 </dev/null
  report "$name" $?
}

need() { command -v "$1" >/dev/null || { echo "compat: installing $2"; apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2" >/dev/null; }; }

kcat_suite() { need kcat kcat; suite kcat "$here/kcat.sh"; }

kafka_tools_suite() {
  need mvn maven
  if ! ls "$cache"/kafka-libs/kafka-tools-*.jar >/dev/null 2>&1; then
    (cd "$here" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$cache/kafka-libs" -DincludeScope=runtime) || return
  fi
  export KAFKA_CP="$cache/kafka-libs/*"
  for tool in topics configs console perf groups end-to-end; do suite "kafka-$tool" "$here/kafka-tools.sh" "$tool"; done
}

kafkajs_suite() {
  cp "$here"/kafkajs/* "$work/" && (cd "$work" && npm install --silent --no-audit --no-fund >"$cache/npm.log" 2>&1)
  suite kafkajs node "$work/test.mjs"
}

python_suite() { # name, package, script
  local venv="$cache/venv-$1"
  [[ -d $venv ]] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q $2 >"$cache/pip-$1.log" 2>&1; }
  suite "$1" "$venv/bin/python" "$here/python/$3"
}

franz_suite() { suite franz-go "$here/franz-go.sh" "$cache"; }

start
for s in ${@:-kcat kafka-tools kafkajs confluent kafka-python aiokafka franz-go}; do
  case $s in
    kcat) kcat_suite ;;
    kafka-tools) kafka_tools_suite ;;
    kafkajs) kafkajs_suite ;;
    confluent) python_suite confluent "confluent-kafka==2.11.1" confluent_test.py ;;
    kafka-python) python_suite kafka-python "kafka-python==2.2.15" kafka_python_test.py ;;
    aiokafka) python_suite aiokafka "aiokafka==0.12.0" aiokafka_test.py ;;
    franz-go) franz_suite ;;
    *) echo "compat: no suite $s"; exit 2 ;;
  esac
done
exit $failed
