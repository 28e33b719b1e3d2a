// kafkajs: admin, produce with headers and gzip, a consumer group, offsets.
import assert from "node:assert/strict";
import kafkajs from "kafkajs";

const { Kafka, CompressionTypes, logLevel } = kafkajs;
const kafka = new Kafka({ brokers: process.env.BROKERS.split(","), clientId: "compat", logLevel: logLevel.ERROR });
const topic = `kafkajs-${process.pid}`;
const admin = kafka.admin();
await admin.connect();
assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 3 }], waitForLeaders: true }), true);
assert.ok((await admin.listTopics()).includes(topic));
const meta = await admin.fetchTopicMetadata({ topics: [topic] });
assert.equal(meta.topics[0].partitions.length, 3);

for (const idempotent of [false, true]) {
  const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined });
  await producer.connect();
  for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
    const messages = Array.from({ length: 100 }, (_, i) => ({ key: `k${i}`, value: `v${i}`, headers: { h: "x" } }));
    const sent = await producer.send({ topic, messages, acks: -1, compression });
    assert.ok(sent.every((p) => p.errorCode === 0));
  }
  await producer.disconnect();
}

const consumer = kafka.consumer({ groupId: `g-${topic}`, sessionTimeout: 10000 });
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
let seen = 0;
await new Promise((resolve, reject) => {
  setTimeout(() => reject(new Error(`only ${seen} of 400 records`)), 30000).unref();
  consumer.run({
    eachMessage: async ({ message }) => {
      assert.equal(message.headers.h.toString(), "x");
      if (++seen === 400) resolve();
    },
  });
});
await consumer.disconnect();
const offsets = await admin.fetchOffsets({ groupId: `g-${topic}`, topics: [topic] });
assert.equal(offsets[0].partitions.reduce((n, p) => n + Number(p.offset), 0), 400);
const groups = await admin.describeGroups([`g-${topic}`]);
assert.equal(groups.groups[0].state, "Empty");
await admin.deleteGroups([`g-${topic}`]);
await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries: [{ name: "retention.ms", value: "1000000" }] }] });
const config = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic, configNames: ["retention.ms"] }] });
assert.equal(config.resources[0].configEntries[0].configValue, "1000000");
await admin.deleteTopics({ topics: [topic] });
await admin.disconnect();
console.log("ok");
