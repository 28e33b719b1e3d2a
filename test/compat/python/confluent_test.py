"""confluent-kafka-python (librdkafka): admin, idempotent produce, groups, static members, seek."""
import os
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec)

print("confluent-kafka", confluent_kafka.__version__, "librdkafka", confluent_kafka.libversion()[0])
brokers = {"bootstrap.servers": os.environ["BROKERS"]}
topic = f"confluent-{os.getpid()}"
admin = AdminClient(brokers)


def topics():
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
    admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4
    try:
        admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
        raise AssertionError("created twice")
    except KafkaException as e:
        assert e.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, e


def produce():
    """Five codecs of 200 records, each delivered once and in order."""
    delivered = []
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        producer = Producer({**brokers, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5})
        for i in range(200):
            producer.produce(topic, key=f"{codec}-{i}", value=f"v{i}", headers={"n": str(i)},
                             on_delivery=lambda err, m: delivered.append((err, m.partition(), m.offset())))
            producer.poll(0)
        assert producer.flush(30) == 0
    assert len(set(delivered)) == 1000 and all(err is None for err, _, _ in delivered)


def consumer(**options):
    return Consumer({**brokers, "auto.offset.reset": "earliest", "isolation.level": "read_committed", **options})


def consume(strategy):
    c = consumer(**{"group.id": f"g-{topic}-{strategy}", "partition.assignment.strategy": strategy})
    c.subscribe([topic])
    seen, until = {}, time.time() + 30
    while len(seen) < 1000 and time.time() < until:
        m = c.poll(1)
        if m is not None:
            assert m.error() is None, m.error()
            assert m.key() not in seen, "a record came twice"
            seen[m.key()] = m.value()
    assert len(seen) == 1000, len(seen)
    c.commit(asynchronous=False)
    committed = c.committed([TopicPartition(topic, p) for p in range(4)], timeout=10)
    assert sum(p.offset for p in committed) == 1000
    low, high = c.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    assert low == 0 and high > 0
    c.seek(TopicPartition(topic, 0, high - 1))
    while (m := c.poll(10)) is not None and m.error() is None:
        if m.partition() == 0 and m.offset() == high - 1:
            break
    else:
        raise AssertionError(f"seek: {m and m.error()}")
    at = c.offsets_for_times([TopicPartition(topic, 0, m.timestamp()[1])], timeout=10)[0].offset
    assert 0 <= at < high, at
    c.close()


def static():
    """A static member that comes back keeps its partitions; a twin fences it."""
    options = {"group.id": f"g-{topic}-static", "group.instance.id": "one", "session.timeout.ms": 15000}

    def joined(c):
        until = time.time() + 30
        while not c.assignment() and time.time() < until:
            c.poll(0.2)
        return {(p.topic, p.partition) for p in c.assignment()}

    first = consumer(**options)
    first.subscribe([topic])
    mine = joined(first)
    assert len(mine) == 4
    first.close()
    again = consumer(**options)
    again.subscribe([topic])
    assert joined(again) == mine
    group = admin.describe_consumer_groups([options["group.id"]])[options["group.id"]].result(30)
    assert [m.group_instance_id for m in group.members] == ["one"], group.members
    fatal = []
    again.close()
    old = consumer(**options, error_cb=fatal.append)
    old.subscribe([topic])
    assert joined(old) == mine
    twin = consumer(**options)
    twin.subscribe([topic])
    assert joined(twin) == mine
    until = time.time() + 30
    while not fatal and time.time() < until:
        m = old.poll(0.2)
        if m is not None and m.error() is not None:
            fatal.append(m.error())
    assert fatal and any(e.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL) for e in fatal), fatal
    old.close()
    twin.close()


def transactions_are_refused():
    """Refused by name, not left to a timeout."""
    producer = Producer({**brokers, "transactional.id": f"t-{topic}"})
    begun = time.time()
    try:
        producer.init_transactions(20)
        raise AssertionError("a transaction began")
    except KafkaException as e:
        print("init_transactions:", e)
        assert time.time() - begun < 15 and e.args[0].code() != KafkaError._TIMED_OUT, e


def administer():
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    assert "retention.ms" in admin.describe_configs([resource])[resource].result(30)
    change = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[
        ConfigEntry("retention.ms", "777000", incremental_operation=AlterConfigOpType.SET)])
    admin.incremental_alter_configs([change])[change].result(30)
    assert admin.describe_configs([resource])[resource].result(30)["retention.ms"].value == "777000"
    assert admin.describe_cluster().result(30).controller.id >= 0
    partition = TopicPartition(topic, 0)
    end = admin.list_offsets({partition: OffsetSpec.latest()})[partition].result(30).offset
    assert end > 0
    trimmed = admin.delete_records([TopicPartition(topic, 0, end)])
    assert [f.result(30).low_watermark for f in trimmed.values()] == [end]
    name = f"g-{topic}-range"
    assert any(g.group_id == name for g in admin.list_consumer_groups().result(30).valid)
    admin.delete_consumer_groups([name])[name].result(30)
    admin.delete_topics([topic])[topic].result(30)


topics()
produce()
for strategy in ("range", "roundrobin", "cooperative-sticky"):
    consume(strategy)
static()
transactions_are_refused()
administer()
print("ok")
