"""kafka-python: its own pure-Python protocol, also as the old brokers it can be told of."""
import os

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic

print("kafka-python", kafka.__version__)
brokers = os.environ["BROKERS"]
admin = KafkaAdminClient(bootstrap_servers=brokers)
modern = not kafka.__version__.startswith("2.0.")
# Versions that a client pins its requests to; None asks the broker. 2.0.2 pinned
# to 0.11 reads nothing from Apache Kafka 4.3.1 either.
versions = [None, (1, 0), (2, 0)] + ([(0, 11), (2, 5)] if modern else [])
codecs = (None, "gzip", "snappy", "lz4") + (("zstd",) if modern else ())


def round_trip(version):
    topic = f"kafka-python-{kafka.__version__}-{os.getpid()}-{'.'.join(map(str, version or ('asked',)))}"
    options = {"bootstrap_servers": brokers, "api_version": version}
    admin.create_topics([NewTopic(topic, 1, 1)])
    admin.create_partitions({topic: NewPartitions(2)})
    sent = 0
    for codec in codecs:
        if codec == "zstd" and version is not None and version < (2, 1):
            continue
        producer = KafkaProducer(acks="all", compression_type=codec, **options)
        futures = [producer.send(topic, key=b"k%d" % i, value=b"v%d" % i, headers=[("h", b"x")]) for i in range(100)]
        producer.flush(30)
        assert all(f.get(10).offset >= 0 for f in futures)
        producer.close()
        sent += 100
    consumer = KafkaConsumer(topic, group_id=f"g-{topic}", auto_offset_reset="earliest", consumer_timeout_ms=15000, **options)
    seen = set()
    for m in consumer:
        assert m.headers == [("h", b"x")]
        seen.add((m.partition, m.offset))
        if len(seen) == sent:
            break
    assert len(seen) == sent, len(seen)
    consumer.commit()
    partitions = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    assert sum(consumer.committed(p) for p in partitions) == sent
    assert sum(consumer.end_offsets(partitions).values()) == sent
    assert sum(consumer.beginning_offsets(partitions).values()) == 0
    assert consumer.offsets_for_times({partitions[0]: 0})[partitions[0]].offset == 0
    consumer.close()
    assert f"g-{topic}" in [g[0] for g in admin.list_consumer_groups()]
    assert admin.list_consumer_group_offsets(f"g-{topic}")
    admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    admin.delete_consumer_groups([f"g-{topic}"])
    admin.delete_topics([topic])
    print("ok", version)


for v in versions:
    round_trip(v)
print("ok")
