#!/usr/bin/env bash
# kcat (librdkafka): metadata, produce with keys, headers and every codec,
# consume by offset and time, and a balanced group.
set -eux
t=kcat-$$
kcat -b "$BROKERS" -L | grep -q 'broker 0 at'
for codec in none gzip snappy lz4 zstd; do
  for i in $(seq 100); do echo "k$i:v$i-$codec"; done | kcat -b "$BROKERS" -P -t "$t" -K: -H a=b -z $codec -X enable.idempotence=true
done
[[ $(kcat -b "$BROKERS" -C -t "$t" -o beginning -e -q | wc -l) == 500 ]]
[[ $(kcat -b "$BROKERS" -C -t "$t" -o -10 -p 0 -e -q | wc -l) == 10 ]]
kcat -b "$BROKERS" -C -t "$t" -o beginning -c 1 -f '%k %s %h\n' | grep -q '^k1 v1-none a=b$'
kcat -b "$BROKERS" -Q -t "$t:0:0" | grep -q 'offset 0'
[[ $(timeout 60 kcat -b "$BROKERS" -G "group-$t" -X auto.offset.reset=earliest -c 500 -q "$t" | wc -l) == 500 ]]
# The group's offsets are committed: another member begins behind them.
echo last | kcat -b "$BROKERS" -P -t "$t"
[[ $(timeout 60 kcat -b "$BROKERS" -G "group-$t" -X auto.offset.reset=earliest -c 1 -q "$t") == last ]]
