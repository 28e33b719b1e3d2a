"""kafka-python: its own pure-Python protocol, at the low end of versions."""
import os

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

brokers = os.environ["BROKERS"]
topic = f"kafka-python-{os.getpid()}"
admin = KafkaAdminClient(bootstrap_servers=brokers)
admin.create_topics([NewTopic(topic, 2, 1)])
for codec in (None, "gzip"):
    producer = KafkaProducer(bootstrap_servers=brokers, acks="all", compression_type=codec)
    futures = [producer.send(topic, key=b"k%d" % i, value=b"v%d" % i, headers=[("h", b"x")]) for i in range(500)]
    producer.flush(30)
    assert all(f.get(10).offset >= 0 for f in futures)
    producer.close()
consumer = KafkaConsumer(topic, bootstrap_servers=brokers, group_id=f"g-{topic}", auto_offset_reset="earliest",
                         consumer_timeout_ms=15000)
seen = 0
for m in consumer:
    assert m.headers == [("h", b"x")]
    seen += 1
    if seen == 1000:
        break
assert seen == 1000, seen
consumer.commit()
ends = consumer.end_offsets([TopicPartition(topic, 0), TopicPartition(topic, 1)])
assert sum(ends.values()) == 1000
consumer.close()
assert f"g-{topic}" in [g[0] for g in admin.list_consumer_groups()]
admin.delete_topics([topic])
print("ok")
