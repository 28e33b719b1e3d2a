#!/usr/bin/env bash
# kcat (librdkafka): metadata, produce with keys, headers and every codec,
# consume by offset and time, and a balanced group.
set -euxo pipefail
t=kcat-$$
k() { timeout 60 kcat -b "$BROKERS" "$@"; }
is() { [[ "$1" == "$2" ]] || { echo "got '$1', want '$2'"; exit 1; }; }

k -V 2>&1 | tail -1
brokers=$(k -L)
[[ $brokers == *' brokers:'* ]]
for codec in none gzip snappy lz4 zstd; do
  seq 100 | sed "s/.*/k&:v&-$codec/" | k -P -t "$t" -K: -H a=b -z $codec -X enable.idempotence=true
done
seq 10 | k -P -t "$t" -X acks=0
seq 10 | k -P -t "$t" -X acks=1
is "$(k -C -t "$t" -o beginning -e -q | wc -l)" 520
is "$(k -C -t "$t" -o beginning -e -q -X isolation.level=read_committed | wc -l)" 520
is "$(k -C -t "$t" -o -10 -p 0 -e -q | wc -l)" 10
is "$(k -C -t "$t" -o beginning -c 1 -f '%k %s %h\n')" 'k1 v1-none a=b'
is "$(k -C -t "$t" -p 0 -o 400 -c 1 -f '%o %k %s\n')" '400 k1 v1-zstd'
is "$(k -Q -t "$t:0:0")" "$t [0] offset 0"
is "$(k -Q -t "$t:0:-1")" "$t [0] offset 520"
is "$(k -C -t "$t" -o s@0 -c 1 -f '%o\n')" 0
is "$(k -G "group-$t" -X auto.offset.reset=earliest -c 520 -q "$t" | wc -l)" 520
# The group's offsets are committed: another member begins behind them.
echo last | k -P -t "$t"
is "$(k -G "group-$t" -X auto.offset.reset=earliest -c 1 -q "$t")" last
# A large record, and one beyond the topic's limit.
head -c 900000 /dev/zero | tr '\0' x | k -P -t "$t" -X message.max.bytes=2000000
is "$(k -C -t "$t" -o -1 -e -q | wc -c)" 900001
if head -c 3000000 /dev/zero | tr '\0' x | k -P -t "$t" -X message.max.bytes=4000000; then
  echo "a record beyond max.message.bytes was taken"; exit 1
fi
