#!/usr/bin/env bash
# Apache Kafka's own tools, by their main classes.
set -eux
j() { java -Xmx256m -cp "$KAFKA_CP" "$@"; }
topics() { j org.apache.kafka.tools.TopicCommand --bootstrap-server "$BROKERS" "$@"; }
configs() { j kafka.admin.ConfigCommand --bootstrap-server "$BROKERS" "$@"; }
groups() { j org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server "$BROKERS" "$@"; }
producer() { j org.apache.kafka.tools.ConsoleProducer --bootstrap-server "$BROKERS" "$@"; }
consumer() { j org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BROKERS" "$@"; }
t=tools-$1-$$
case $1 in
topics)
  topics --create --topic "$t" --partitions 3 --config retention.ms=3600000
  topics --list | grep -qx "$t"
  topics --describe --topic "$t" | grep -q 'PartitionCount: 3'
  topics --alter --topic "$t" --partitions 5
  topics --describe --topic "$t" | grep -q 'PartitionCount: 5'
  ! topics --create --topic "$t"
  ! topics --create --topic "$t-x" --config no.such.config=1
  topics --delete --topic "$t"
  ! topics --list | grep -qx "$t" ;;
configs)
  topics --create --topic "$t"
  configs --alter --entity-type topics --entity-name "$t" --add-config retention.ms=12345,cleanup.policy=compact
  configs --describe --entity-type topics --entity-name "$t" | grep -q 'retention.ms=12345'
  configs --alter --entity-type topics --entity-name "$t" --delete-config retention.ms
  ! configs --describe --entity-type topics --entity-name "$t" | grep -q 'retention.ms=12345'
  configs --describe --entity-type brokers --entity-name 0 --all | grep -q '=' ;;
console)
  topics --create --topic "$t"
  seq 100 | producer --topic "$t"
  [[ $(consumer --topic "$t" --from-beginning --max-messages 100 --timeout-ms 30000 | sort -n | tail -1) == 100 ]]
  [[ $(consumer --topic "$t" --from-beginning --max-messages 100 --timeout-ms 30000 --isolation-level read_committed | wc -l) == 100 ]]
  j org.apache.kafka.tools.GetOffsetShell --bootstrap-server "$BROKERS" --topic "$t" | grep -qx "$t:0:100"
  echo "{\"partitions\":[{\"topic\":\"$t\",\"partition\":0,\"offset\":60}],\"version\":1}" >/tmp/"$t".json
  j org.apache.kafka.tools.DeleteRecordsCommand --bootstrap-server "$BROKERS" --offset-json-file /tmp/"$t".json
  [[ $(consumer --topic "$t" --from-beginning --max-messages 40 --timeout-ms 30000 | head -1) == 61 ]] ;;
perf)
  topics --create --topic "$t" --partitions 4
  j org.apache.kafka.tools.ProducerPerformance --topic "$t" --num-records 50000 --record-size 1000 --throughput -1 \
    --producer-props bootstrap.servers="$BROKERS" acks=all compression.type=lz4 | tail -1
  j org.apache.kafka.tools.ConsumerPerformance --bootstrap-server "$BROKERS" --topic "$t" --messages 50000 | tail -1 ;;
groups)
  topics --create --topic "$t" --partitions 2
  seq 50 | producer --topic "$t"
  consumer --topic "$t" --group "g-$t" --from-beginning --max-messages 50 --timeout-ms 30000 >/dev/null
  groups --list | grep -qx "g-$t"
  groups --describe --group "g-$t" | grep -q "$t"
  groups --reset-offsets --group "g-$t" --topic "$t" --to-earliest --execute
  [[ $(consumer --topic "$t" --group "g-$t" --max-messages 50 --timeout-ms 30000 | wc -l) == 50 ]]
  groups --delete-offsets --group "g-$t" --topic "$t"
  groups --delete --group "g-$t"
  ! groups --list | grep -qx "g-$t" ;;
end-to-end)
  topics --create --topic "$t"
  j org.apache.kafka.tools.EndToEndLatency "$BROKERS" "$t" 2000 all 1024 || \
    j org.apache.kafka.tools.EndToEndLatency --bootstrap-server "$BROKERS" --topic "$t" --num-records 2000 --producer-acks all --record-size 1024 ;;
esac
