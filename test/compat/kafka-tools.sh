#!/usr/bin/env bash
# Apache Kafka's own tools, by their main classes. KAFKA_CP is their class path.
set -euxo pipefail
java=(java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto -cp "$KAFKA_CP")
j() { timeout 90 "${java[@]}" "$@"; }
tool() { local class=$1; shift; j "org.apache.kafka.tools.$class" --bootstrap-server "$BROKERS" "$@"; }
topics() { tool TopicCommand "$@"; }
configs() { j kafka.admin.ConfigCommand --bootstrap-server "$BROKERS" "$@"; }
groups() { tool consumer.group.ConsumerGroupCommand "$@"; }
producer() { tool ConsoleProducer "$@"; }
consumer() { tool consumer.ConsoleConsumer --timeout-ms 30000 "$@"; } # gives up after 30 s without a record

has() { [[ "$1" == *"$2"* ]] || { echo "got '$1', want it to have '$2'"; exit 1; }; }
lacks() { [[ "$1" != *"$2"* ]] || { echo "got '$1', want it without '$2'"; exit 1; }; }
is() { [[ "$1" == "$2" ]] || { echo "got '$1', want '$2'"; exit 1; }; }
# refused gives what a command that must fail says.
refused() { if "$@" 2>&1; then echo "not refused: $*"; exit 1; fi; }

t=tools-$1-$$
case $1 in
topics)
  topics --create --topic "$t" --partitions 3 --config retention.ms=3600000
  has "$(topics --list)" "$t"
  described=$(topics --describe --topic "$t")
  has "$described" 'PartitionCount: 3'; has "$described" 'retention.ms=3600000'; has "$described" 'Isr: 0'
  topics --alter --topic "$t" --partitions 5
  has "$(topics --describe --topic "$t")" 'PartitionCount: 5'
  is "$(topics --describe --under-replicated-partitions)" ''
  has "$(refused topics --create --topic "$t")" TopicExistsException
  topics --create --topic "$t" --if-not-exists
  has "$(refused topics --create --topic "$t-x" --config no.such.config=1)" InvalidConfigurationException
  has "$(refused topics --create --topic "$t-x" --replication-factor 3)" InvalidReplicationFactorException
  has "$(refused topics --create --topic 'a b')" InvalidTopicException
  topics --create --topic "$t-x" --replica-assignment 0,0
  has "$(topics --describe --topic "$t-x")" 'PartitionCount: 2'
  topics --delete --topic "$t"
  lacks "$(topics --list)" "$t"$'\n' ;;
configs)
  topics --create --topic "$t"
  topic() { configs --entity-type topics --entity-name "$t" "$@"; }
  topic --alter --add-config 'retention.ms=12345,cleanup.policy=[compact,delete]'
  described=$(topic --describe)
  has "$described" 'retention.ms=12345'; has "$described" 'cleanup.policy=compact,delete'
  topic --alter --delete-config retention.ms
  lacks "$(topic --describe)" 'retention.ms=12345'
  has "$(topic --describe --all)" 'max.message.bytes=1048588'
  refused topic --alter --add-config retention.ms=never
  refused topic --alter --add-config no.such.config=1
  has "$(configs --describe --entity-type brokers --entity-name 0 --all)" '=' ;;
console)
  topics --create --topic "$t"
  for codec in none gzip snappy lz4 zstd; do
    seq 20 | sed 's/.*/k&:&/' | producer --topic "$t" --compression-codec $codec --reader-property parse.key=true --reader-property key.separator=:
  done
  is "$(consumer --topic "$t" --from-beginning --max-messages 100 | sort -n | tail -1)" 20
  is "$(consumer --topic "$t" --from-beginning --max-messages 100 --isolation-level read_committed | wc -l)" 100
  is "$(consumer --topic "$t" --partition 0 --offset 99 --max-messages 1 --formatter-property print.key=true --formatter-property print.offset=true)" $'Offset:99\tk20\t20'
  is "$(tool GetOffsetShell --topic "$t")" "$t:0:100"
  is "$(tool GetOffsetShell --topic "$t" --time earliest)" "$t:0:0"
  is "$(tool GetOffsetShell --topic "$t" --time max-timestamp | cut -d: -f1,2)" "$t:0"
  json=$(mktemp)
  echo "{\"partitions\":[{\"topic\":\"$t\",\"partition\":0,\"offset\":60}],\"version\":1}" >"$json"
  has "$(tool DeleteRecordsCommand --offset-json-file "$json")" 'low_watermark: 60'
  rm "$json"
  is "$(consumer --topic "$t" --from-beginning --max-messages 40 | head -1)" 1
  is "$(tool GetOffsetShell --topic "$t" --time earliest)" "$t:0:60" ;;
perf)
  topics --create --topic "$t" --partitions 4
  j org.apache.kafka.tools.ProducerPerformance --topic "$t" --num-records 50000 --record-size 1000 --throughput -1 \
    --bootstrap-server "$BROKERS" --command-property acks=all --command-property compression.type=lz4 | tail -1
  has "$(tool ConsumerPerformance --topic "$t" --num-records 50000 | tail -1)" ', 50000,' ;;
groups)
  g=g-$t
  topics --create --topic "$t" --partitions 2
  seq 50 | producer --topic "$t"
  is "$(consumer --topic "$t" --group "$g" --from-beginning --max-messages 50 | wc -l)" 50
  has "$(groups --list --state)" "$g"
  has "$(groups --describe --group "$g")" "$t"
  has "$(groups --describe --group "$g" --state)" Empty
  # A static member is named while it runs, and keeps others from moving the offsets.
  timeout 90 "${java[@]}" org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$BROKERS" --topic "$t" --group "$g" \
    --command-property group.instance.id=static-1 --command-property session.timeout.ms=6000 &
  member=$!
  for _ in $(seq 10); do
    members=$(groups --describe --group "$g" --members --verbose 2>&1 || true)
    [[ $members != *static-1*"$t"* ]] || break
  done
  has "$members" static-1
  has "$(groups --describe --group "$g" --state)" Stable
  has "$(refused groups --reset-offsets --group "$g" --topic "$t" --to-earliest --execute)" inactive
  kill $member; wait $member || true
  consumer --topic "$t" --group "$g-2" --from-beginning --max-messages 50 >/dev/null
  for to in --to-earliest '--shift-by 5' '--to-datetime 2020-01-01T00:00:00.000' --to-latest '--by-duration PT1H'; do
    # shellcheck disable=SC2086 # to is an option and its value
    groups --reset-offsets --group "$g-2" --topic "$t" $to --execute
  done
  is "$(consumer --topic "$t" --group "$g-2" --max-messages 50 | wc -l)" 50
  groups --delete-offsets --group "$g-2" --topic "$t"
  groups --delete --group "$g-2"
  lacks "$(groups --list)" "$g-2"
  # The static member did not leave; its session has ended by now or soon.
  for _ in $(seq 10); do groups --delete --group "$g" && break; done
  lacks "$(groups --list)" "$g" ;;
cluster)
  has "$(j org.apache.kafka.tools.ClusterTool cluster-id --bootstrap-server "$BROKERS")" 'Cluster ID:'
  has "$(tool BrokerApiVersionsCommand)" 'Produce(0): 0 to 13'
  has "$(tool LogDirsCommand --describe)" '"error":null'
  topics --create --topic "$t" --partitions 1
  has "$(tool LeaderElectionCommand --election-type preferred --topic "$t" --partition 0)" 'Valid replica already elected'
  has "$(tool GroupsCommand --list)" GROUP
  plan=$(mktemp)
  echo '{"version":1,"partitions":[{"topic":"'"$t"'","partition":0,"replicas":[0]}]}' >"$plan"
  reassign=(tool reassign.ReassignPartitionsCommand --reassignment-json-file "$plan")
  has "$("${reassign[@]}" --execute --throttle 1000000)" 'inter-broker throttle limit was set'
  has "$(configs --describe --broker 0)" follower.replication.throttled.rate=1000000
  has "$("${reassign[@]}" --verify)" 'Clearing topic-level throttles'
  lacks "$(configs --describe --broker 0)" follower.replication.throttled.rate=1000000
  rm "$plan" ;;
verifiable)
  topics --create --topic "$t" --partitions 3
  has "$(j org.apache.kafka.tools.VerifiableProducer --bootstrap-server "$BROKERS" --topic "$t" --max-messages 500 --throughput -1 | tail -1)" '"acked":500'
  seen=$(tool VerifiableConsumer --topic "$t" --group-id "g-$t" --reset-policy earliest --max-messages 500 --group-instance-id static-v)
  has "$seen" '"name":"offsets_committed"'; has "$seen" '"success":true' ;;
end-to-end)
  topics --create --topic "$t"
  has "$(tool EndToEndLatency --topic "$t" --num-records 2000 --producer-acks all --record-size 1024)" Percentiles ;;
*) echo "no tool $1"; exit 2 ;;
esac
