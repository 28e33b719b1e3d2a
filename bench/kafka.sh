#!/usr/bin/env bash
# kafka.sh DIR PORT [key=value...]: one combined Kafka node in the foreground.
# KAFKA_CP is its class path.
set -eu
dir=$1 port=$2
shift 2
mkdir -p "$dir/data"
cat >"$dir/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$((port + 1))
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
P
printf '%s\n' "$@" >>"$dir/server.properties"
java -Xmx256m -cp "$KAFKA_CP" kafka.tools.StorageTool format -t MillraceBenchKafka000w -c "$dir/server.properties" >"$dir/format.log" 2>&1
exec java -Xms1g -Xmx1g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 \
  -Djava.awt.headless=true -cp "$KAFKA_CP" kafka.Kafka "$dir/server.properties" >"$dir/server.log" 2>&1
