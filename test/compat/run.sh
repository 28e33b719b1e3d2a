#!/usr/bin/env bash
# Third-party clients, unmodified, against a broker of ours. Each suite prints
# "ok NAME" or "FAIL NAME"; the exit code is the number that failed.
#
#   run.sh [SUITE...]
#
# Suites: kcat kafka-tools java kafkajs confluent kafka-python
# kafka-python-2.0 aiokafka go franz-go; all of them without an argument. What was run and what
# passed is in docs/COMPAT.md.
#
#   MILLRACE              the broker's executable (bin/millrace)
#   BROKERS               a broker that runs already; none is started then
#   KAFKA_LIBS            a directory with the jars of Apache Kafka's tools (fetched by Maven)
#   MILLRACE_COMPAT_CACHE where clients are installed and logs are kept (build/compat)
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${MILLRACE_COMPAT_CACHE:-$root/build/compat}
millrace=${MILLRACE:-$root/bin/millrace}
mkdir -p "$cache" && cache=$(cd "$cache" && pwd) || exit 100 # an absolute path: suites change directories
work=$(mktemp -d)
failed=0
broker=

# A client that hangs must not take the run with it: each suite and each
# installation ends after so many seconds.
suite_max=300
install_max=600

stop() {
  [[ -n "$broker" ]] && kill "$broker" 2>/dev/null && wait "$broker" 2>/dev/null
  rm -rf "$work"
}
trap stop EXIT

start() {
  : >"$work/ready" # the broker may not have opened it when it is first read
  "$millrace" start --mode dev --data-dir "$work/data" --kafka-addr 127.0.0.1:0 --admin-addr 127.0.0.1:0 \
    --rpc-addr 127.0.0.1:0 --proxy-addr off --registry-addr off --sidecar off >"$work/ready" 2>"$cache/broker.log" &
  broker=$!
  for _ in $(seq 300); do
    grep -q '^ready ' "$work/ready" && break
    kill -0 "$broker" 2>/dev/null || { echo "compat: the broker ended"; tail -20 "$cache/broker.log"; exit 100; }
    sleep 0.1
  done
  BROKERS=$(sed -n 's/.* kafka=\([^ ]*\).*/\1/p' "$work/ready")
  [[ -n "$BROKERS" ]] || { echo "compat: the broker is not ready after 30 s"; tail -20 "$cache/broker.log"; exit 100; }
}

report() { # name, status, seconds
  if [[ $2 == 0 ]]; then echo "ok   $1 (${3}s)"; else echo "FAIL $1 (${3}s, see $cache/$1.log)"; failed=$((failed + 1)); fi
}

suite() { # name, command...
  local name=$1 from=$SECONDS; shift
  timeout -k 5 "$suite_max" "$@" >"$cache/$name.log" 2>&1 </dev/null
  report "$name" $? $((SECONDS - from))
}

install() { # name, command...: a suite whose client cannot be installed has failed
  local name=$1 from=$SECONDS; shift
  timeout -k 5 "$install_max" "$@" >"$cache/$name.log" 2>&1 </dev/null && return
  report "$name" 1 $((SECONDS - from)); return 1
}

need() { # command, Debian package
  command -v "$1" >/dev/null && return
  echo "compat: installing $2"
  { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$2"; } >/dev/null || { echo "compat: $2 cannot be installed"; exit 100; }
}

kcat_suite() { need kcat kcat; suite kcat "$here/kcat.sh"; }

kafka_libs() {
  need java default-jre-headless
  local libs=${KAFKA_LIBS:-$cache/kafka-libs}
  if ! ls "$libs"/kafka-tools-*.jar >/dev/null 2>&1; then
    need mvn maven
    install kafka-libs mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs" -DincludeScope=runtime || return
  fi
  export KAFKA_CP="$libs/*"
}

kafka_tools_suite() {
  kafka_libs || return
  for tool in topics configs console perf groups cluster verifiable end-to-end; do
    suite "kafka-$tool" "$here/kafka-tools.sh" "$tool"
  done
}

java_suite() {
  kafka_libs || return
  need javac default-jdk-headless
  suite java-clients java -Xmx300m -XX:TieredStopAtLevel=1 -cp "$KAFKA_CP" "$here/java/Clients.java"
}

kafkajs_suite() {
  need node nodejs; need npm npm
  mkdir -p "$cache/kafkajs" && cp "$here"/kafkajs/* "$cache/kafkajs/"
  install kafkajs npm install --prefix "$cache/kafkajs" --silent --no-audit --no-fund || return
  suite kafkajs node "$cache/kafkajs/test.mjs"
}

python_suite() { # name, packages, script
  need python3 python3
  local venv="$cache/venv-$1"
  if ! [[ -e $venv/ok ]]; then
    python3 -c 'import ensurepip' 2>/dev/null || need python3-venv python3-venv
    rm -rf "$venv"
    install "$1" python3 -m venv "$venv" || return
    # shellcheck disable=SC2086 # packages is a list
    install "$1" "$venv/bin/pip" install -q $2 || return
    touch "$venv/ok"
  fi
  suite "$1" "$venv/bin/python" "$here/python/$3"
}

go_suite() {
  install go go build -C "$here/go" -o "$cache/go-clients" . || return
  for client in sarama kafka-go; do suite "$client" "$cache/go-clients" "$client"; done
}

franz_suite() { suite franz-go "$here/franz-go.sh" "$cache"; }

[[ -n "${BROKERS:-}" ]] || start
export BROKERS
[[ $# -gt 0 ]] || set -- kcat kafka-tools java kafkajs confluent kafka-python kafka-python-2.0 aiokafka go franz-go
for s in "$@"; do
  case $s in
    kcat) kcat_suite ;;
    kafka-tools) kafka_tools_suite ;;
    java) java_suite ;;
    kafkajs) kafkajs_suite ;;
    confluent) python_suite confluent "confluent-kafka==2.11.1" confluent_test.py ;;
    kafka-python) python_suite kafka-python "kafka-python==2.2.15 python-snappy lz4 zstandard" kafka_python_test.py ;;
    kafka-python-2.0) python_suite kafka-python-2.0 "kafka-python==2.0.2 python-snappy lz4" kafka_python_test.py ;;
    aiokafka) python_suite aiokafka "aiokafka[snappy,lz4,zstd]==0.12.0" aiokafka_test.py ;;
    go) go_suite ;;
    franz-go) franz_suite ;;
    *) echo "compat: no suite $s"; exit 101 ;;
  esac
done
exit $failed
