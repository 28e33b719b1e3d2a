"""confluent-kafka-python (librdkafka): admin, idempotent produce, group, seek."""
import os
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

brokers = {"bootstrap.servers": os.environ["BROKERS"]}
topic = f"confluent-{os.getpid()}"
admin = AdminClient(brokers)
admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(30)
admin.create_partitions([NewPartitions(topic, 4)])[topic].result(30)
assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 4

delivered = []
producer = Producer({**brokers, "enable.idempotence": True, "compression.type": "zstd", "linger.ms": 5})
for i in range(1000):
    producer.produce(topic, key=str(i), value=f"v{i}", headers={"n": str(i)},
                     on_delivery=lambda err, m: delivered.append((err, m.offset())))
    producer.poll(0)
assert producer.flush(30) == 0
assert len(delivered) == 1000 and all(err is None for err, _ in delivered)

for strategy in ("range", "cooperative-sticky"):
    consumer = Consumer({**brokers, "group.id": f"g-{topic}-{strategy}", "auto.offset.reset": "earliest",
                         "partition.assignment.strategy": strategy, "isolation.level": "read_committed"})
    consumer.subscribe([topic])
    seen, until = {}, time.time() + 30
    while len(seen) < 1000 and time.time() < until:
        m = consumer.poll(1)
        if m is not None:
            assert m.error() is None, m.error()
            assert m.key() not in seen, "a record came twice"
            seen[m.key()] = m.value()
    assert len(seen) == 1000, len(seen)
    consumer.commit(asynchronous=False)
    committed = consumer.committed([TopicPartition(topic, p) for p in range(4)], timeout=10)
    assert sum(c.offset for c in committed) == 1000
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
    assert low == 0 and high > 0
    consumer.close()

resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
assert "retention.ms" in admin.describe_configs([resource])[resource].result(30)
assert any(g.group_id == f"g-{topic}-range" for g in admin.list_consumer_groups().result(30).valid)
admin.delete_consumer_groups([f"g-{topic}-range"])[f"g-{topic}-range"].result(30)
admin.delete_topics([topic])[topic].result(30)
print("ok")
