// kafkajs: admin, produce with headers and codecs, consumer groups, offsets.
import assert from "node:assert/strict";
import kafkajs from "kafkajs";
import SnappyCodec from "kafkajs-snappy";

const { Kafka, CompressionCodecs, CompressionTypes, logLevel } = kafkajs;
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec;
const kafka = new Kafka({ brokers: process.env.BROKERS.split(","), clientId: "compat", logLevel: logLevel.ERROR });
const topic = `kafkajs-${process.pid}`;
const groupId = `g-${topic}`;
const codecs = [CompressionTypes.None, CompressionTypes.GZIP, CompressionTypes.Snappy];
const total = 2 * codecs.length * 100;
const admin = kafka.admin();

async function topics() {
  // Without counts kafkajs asks for the cluster's defaults, in CreateTopics 3.
  assert.equal(await admin.createTopics({ topics: [{ topic }], waitForLeaders: true }), true);
  assert.equal(await admin.createTopics({ topics: [{ topic }] }), false, "created twice");
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] });
  assert.ok((await admin.listTopics()).includes(topic));
  const meta = await admin.fetchTopicMetadata({ topics: [topic] });
  assert.equal(meta.topics[0].partitions.length, 3);
}

async function produce() {
  for (const idempotent of [false, true]) {
    const producer = kafka.producer({ idempotent, maxInFlightRequests: idempotent ? 1 : undefined });
    await producer.connect();
    for (const compression of codecs) {
      const messages = Array.from({ length: 100 }, (_, i) => ({ key: `k${i}`, value: `v${i}`, headers: { h: "x" } }));
      const sent = await producer.send({ topic, messages, acks: -1, compression });
      assert.ok(sent.every((p) => p.errorCode === 0));
    }
    await producer.disconnect();
  }
}

// consume runs two members until they have seen all records, each once.
async function consume() {
  const members = [1, 2].map(() => kafka.consumer({ groupId, sessionTimeout: 10000, rebalanceTimeout: 10000, readUncommitted: false }));
  const seen = new Set();
  await new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`only ${seen.size} of ${total} records`)), 60000).unref();
    Promise.all(members.map(async (member) => {
      await member.connect();
      await member.subscribe({ topic, fromBeginning: true });
      await member.run({
        eachMessage: async ({ partition, message }) => {
          assert.equal(message.headers.h.toString(), "x");
          seen.add(`${partition}/${message.offset}`);
          if (seen.size === total) resolve();
        },
      });
    })).catch(reject);
  });
  await Promise.all(members.map((member) => member.disconnect()));
}

async function administer() {
  const offsets = await admin.fetchOffsets({ groupId, topics: [topic] });
  assert.equal(offsets[0].partitions.reduce((n, p) => n + Number(p.offset), 0), total);
  const ends = await admin.fetchTopicOffsets(topic);
  assert.equal(ends.reduce((n, p) => n + Number(p.high), 0), total);
  await admin.fetchTopicOffsetsByTimestamp(topic, Date.now() - 3600000);
  await admin.resetOffsets({ groupId, topic, earliest: true });
  const groups = await admin.describeGroups([groupId]);
  assert.equal(groups.groups[0].state, "Empty");
  assert.ok((await admin.listGroups()).groups.some((g) => g.groupId === groupId));
  await admin.deleteGroups([groupId]);
  const resource = { type: 2, name: topic };
  await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: "retention.ms", value: "1000000" }] }] });
  const config = await admin.describeConfigs({ includeSynonyms: false, resources: [{ ...resource, configNames: ["retention.ms"] }] });
  assert.equal(config.resources[0].configEntries[0].configValue, "1000000");
  await admin.deleteTopicRecords({ topic, partitions: ends.map((p) => ({ partition: p.partition, offset: "-1" })) });
  assert.ok((await admin.fetchTopicOffsets(topic)).every((p) => p.low === p.high));
  assert.equal((await admin.describeCluster()).brokers.length, 1);
  await admin.deleteTopics({ topics: [topic] });
}

await admin.connect();
await topics();
await produce();
await consume();
await administer();
await admin.disconnect();
console.log("ok");
