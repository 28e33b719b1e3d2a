"""aiokafka: asyncio, idempotent produce in every codec, a group of two, read_committed."""
import asyncio
import os

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

print("aiokafka", aiokafka.__version__)
brokers = os.environ["BROKERS"]
topic = f"aiokafka-{os.getpid()}"
codecs = (None, "gzip", "snappy", "lz4", "zstd")
count = 100 * len(codecs)


async def produce():
    for codec in codecs:
        producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, acks="all", compression_type=codec)
        await producer.start()
        for i in range(100):
            await producer.send(topic, b"v%d" % i, partition=i % 4, headers=[("h", b"x")])
        await producer.flush()
        await producer.stop()


async def consume():
    members = [AIOKafkaConsumer(topic, bootstrap_servers=brokers, group_id=f"g-{topic}", auto_offset_reset="earliest",
                                isolation_level="read_committed") for _ in range(2)]
    await asyncio.gather(*(m.start() for m in members))
    seen = set()

    async def read(m):
        while len(seen) < count:
            for tp, records in (await m.getmany(timeout_ms=500)).items():
                seen.update((tp.partition, r.offset) for r in records)

    await asyncio.wait_for(asyncio.gather(*(read(m) for m in members)), 60)
    assert len(seen) == count
    for m in members:
        await m.stop()
    reader = AIOKafkaConsumer(bootstrap_servers=brokers, group_id=f"g-{topic}")
    await reader.start()
    partitions = [TopicPartition(topic, p) for p in range(4)]
    assert sum([await reader.committed(p) for p in partitions]) == count
    assert sum((await reader.end_offsets(partitions)).values()) == count
    await reader.stop()


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 4, 1)])
    await produce()
    await consume()
    assert f"g-{topic}" in [g[0] for g in await admin.list_consumer_groups()]
    await admin.delete_topics([topic])
    await admin.close()


asyncio.run(main())
print("ok")
