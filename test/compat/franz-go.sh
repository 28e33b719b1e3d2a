#!/usr/bin/env bash
# franz-go's own integration tests of its client, from its module as the proxy
# serves it: groups under every balancer with members that come and go, static
# members, produce, pauses, purges, regular expressions. Left out: what needs
# features that this broker does not advertise yet (transactions, KIP-848,
# share groups; SCRAM skips itself).
set -eux
cache=$1
version=v1.22.2
dir=$(cd "$(dirname "$0")/go" && go mod download -json github.com/twmb/franz-go@$version | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
copy="$cache/franz-go-src"
rm -rf "$copy" && mkdir -p "$copy" && cp -r "$dir/." "$copy/" && chmod -R u+w "$copy"
cd "$copy/pkg/kgo"
export KGO_SEEDS=$BROKERS KGO_TEST_RF=1 KGO_TEST_RECORDS=50000 KGO_LOG_LEVEL=warn
go test -count=1 -v -timeout 4m -skip 'Txn|Transaction|848|Share' . >"$cache/franz-go-tests.txt" || { grep -B20 -e '--- FAIL' "$cache/franz-go-tests.txt"; exit 1; }
set +x
for outcome in PASS SKIP; do echo "$outcome: $(grep -c -e "--- $outcome" "$cache/franz-go-tests.txt")"; done
grep -e '--- SKIP' "$cache/franz-go-tests.txt"
