#!/usr/bin/env bash
# Apache Kafka as the benchmarks' peer: one KRaft node in the foreground, data in
# PEER_DIR, Kafka API on 127.0.0.1:PEER_PORT, its controller on the port after it.
#
#   kafka.sh [KEY=VALUE...]   settings besides the defaults, as in server.properties
#
#   KAFKA_LIBS   a directory with Kafka's jars
#   PEER_ID, PEER_VOTERS   of a node of several: its id, and ID@HOST:PORT,... of all controllers
#   KAFKA_HEAP   1g
set -eu
: "${PEER_DIR:?}" "${PEER_PORT:?}" "${KAFKA_LIBS:?}"
id=${PEER_ID:-1}
voters=${PEER_VOTERS:-1@127.0.0.1:$((PEER_PORT + 1))}
[[ $voters == *,* ]] && replicas=3 isr=2 || replicas=1 isr=1
cat >"$PEER_DIR/server.properties" <<P
process.roles=broker,controller
node.id=$id
controller.quorum.voters=$voters
listeners=PLAINTEXT://127.0.0.1:$PEER_PORT,CONTROLLER://127.0.0.1:$((PEER_PORT + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$PEER_PORT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$PEER_DIR/data
log.segment.delete.delay.ms=1000
default.replication.factor=$replicas
min.insync.replicas=$isr
offsets.topic.replication.factor=$replicas
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$isr
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$isr
P
printf '%s\n' "$@" >>"$PEER_DIR/server.properties"
java -Xmx256m -cp "$KAFKA_LIBS/*" kafka.tools.StorageTool format --ignore-formatted -t MillraceBenchPeer00000 -c "$PEER_DIR/server.properties" >"$PEER_DIR/format.log" 2>&1
exec java "-Xms${KAFKA_HEAP:-1g}" "-Xmx${KAFKA_HEAP:-1g}" -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
  -XX:InitiatingHeapOccupancyPercent=35 -Djava.awt.headless=true -cp "$KAFKA_LIBS/*" kafka.Kafka "$PEER_DIR/server.properties" \
  >"$PEER_DIR/server.log" 2>&1
