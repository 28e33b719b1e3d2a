"""aiokafka: asyncio, idempotent produce, a group of two."""
import asyncio
import os

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

brokers = os.environ["BROKERS"]
topic = f"aiokafka-{os.getpid()}"


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 4, 1)])
    producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, acks="all")
    await producer.start()
    for i in range(400):
        await producer.send(topic, b"v%d" % i, partition=i % 4)
    await producer.flush()
    await producer.stop()
    members = [AIOKafkaConsumer(topic, bootstrap_servers=brokers, group_id=f"g-{topic}", auto_offset_reset="earliest")
               for _ in range(2)]
    await asyncio.gather(*(m.start() for m in members))
    seen = set()

    async def read(m):
        while len(seen) < 400:
            for tp, records in (await m.getmany(timeout_ms=500)).items():
                seen.update((tp.partition, r.offset) for r in records)

    await asyncio.wait_for(asyncio.gather(*(read(m) for m in members)), 60)
    assert len(seen) == 400
    for m in members:
        await m.stop()
    await admin.delete_topics([topic])
    await admin.close()


asyncio.run(main())
print("ok")
