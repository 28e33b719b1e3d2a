// Runs a transform on records in plain Node, as the engine does it: `import { run } from "@millrace/sdk/testing"`. The same cases run
// against this file and against the engine (test/cases.mjs). Bytes are searched and copied here without the engine's haste.
import { Headers } from "./headers.js";

const utf8 = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

let turn = 0;

function toBytes(value, what) {
  if (value === null || value instanceof Uint8Array) return value;
  if (typeof value === "string") return utf8.encode(value);
  if (value instanceof Bytes) return value.live();
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  const json = value === undefined || value instanceof SourceRecord ? undefined : JSON.stringify(value);
  if (json === undefined) throw new TypeError(`${what} must be null, text, bytes, or what JSON can hold`);
  return utf8.encode(json);
}

class Bytes {
  #bytes;
  #turn = turn;
  constructor(bytes) {
    this.#bytes = bytes;
    Object.preventExtensions(this);
  }
  live() {
    if (this.#turn !== turn && this.#turn !== 0) {
      throw new TypeError("a key or value is used after its record's turn: keep a copy instead, like value.text() or value.bytes()");
    }
    return this.#bytes;
  }
  static kept(bytes) {
    const now = turn;
    turn = 0; // of no turn: good for ever
    try {
      return bytes === null ? null : new Bytes(bytes);
    } finally {
      turn = now;
    }
  }
  get length() {
    return this.live().length;
  }
  indexOf(needle, from = 0) {
    const bytes = toBytes(needle, "what is searched");
    return bytes === null ? -1 : Buffer.from(this.live()).indexOf(bytes, Math.min(Math.max(from, 0), this.length));
  }
  includes(needle, from = 0) {
    return this.indexOf(needle, from) >= 0;
  }
  startsWith(needle) {
    const bytes = toBytes(needle, "what is searched");
    return bytes !== null && Buffer.compare(this.live().subarray(0, bytes.length), bytes) === 0;
  }
  endsWith(needle) {
    const bytes = toBytes(needle, "what is searched");
    return bytes !== null && bytes.length <= this.length && Buffer.compare(this.live().subarray(this.length - bytes.length), bytes) === 0;
  }
  equals(other) {
    const bytes = toBytes(other, "what is searched");
    return bytes !== null && Buffer.compare(this.live(), bytes) === 0;
  }
  at(index) {
    return this.live().at(index);
  }
  text() {
    return decoder.decode(this.live());
  }
  json() {
    return JSON.parse(this.text());
  }
  bytes() {
    return this.live().slice();
  }
  toString() {
    return this.text();
  }
  toJSON() {
    return this.text();
  }
}

class SourceRecord {
  #turn = turn;
  #source;
  #key;
  #value;
  #set = false;
  #headers;
  constructor(source) {
    this.#source = source;
    this.#key = source.key;
    this.#value = source.value;
    Object.preventExtensions(this);
  }
  #live() {
    if (this.#turn !== turn) throw new TypeError("a record is used after its turn: copy what you keep, like record.value.text()");
    return this.#source;
  }
  get topic() {
    return this.#live().topic;
  }
  get partition() {
    return this.#live().partition;
  }
  get offset() {
    return this.#live().offset;
  }
  get timestamp() {
    return this.#live().timestamp;
  }
  get key() {
    this.#live();
    return this.#key === null ? null : new Bytes(this.#key);
  }
  set key(key) {
    this.#live();
    this.#key = toBytes(key, "record.key")?.slice() ?? null;
    this.#set = true;
  }
  get value() {
    this.#live();
    return this.#value === null ? null : new Bytes(this.#value);
  }
  set value(value) {
    this.#live();
    this.#value = toBytes(value, "record.value")?.slice() ?? null;
    this.#set = true;
  }
  get headers() {
    this.#live();
    return (this.#headers ??= new Headers(this.#source.headers.map((pair) => [...pair])));
  }
  text() {
    return this.value?.text() ?? null;
  }
  json() {
    return this.value === null ? null : this.value.json();
  }
  /** For this file: what to write. */
  written() {
    const changed = this.#set || this.#headers?.changed === true;
    return { changed, key: this.#key, value: this.#value, headers: this.#headers?.list ?? this.#source.headers };
  }
}

// --- results ---

const fields = ["key", "value", "headers", "output", "partition"];

function headerPairs(headers, source) {
  if (headers === undefined) return source.headers;
  if (headers === null) return [];
  const wrong = "headers must be a list of [name, value], an object, or a record's headers";
  if (typeof headers !== "object") throw new TypeError(wrong);
  const pairs = Array.isArray(headers) ? headers : Array.isArray(headers.list) ? headers.list : Object.entries(headers);
  return pairs.map((pair) => {
    if (!Array.isArray(pair)) throw new TypeError(wrong);
    return [String(pair[0]), toBytes(pair[1], "a header's value")];
  });
}

function outputName(output, outputs) {
  if (output === undefined) return outputs[0];
  if (typeof output === "number") {
    if (Number.isInteger(output) && output >= 0 && output < outputs.length) return outputs[output];
    throw new RangeError(`output ${output}: the script declares ${outputs.length}`);
  }
  if (typeof output !== "string") throw new TypeError("output must be the name of a declared output");
  if (!outputs.includes(output)) throw new RangeError(`the script declares no output "${output}": add it to outputs in transform.yaml`);
  return output;
}

function partitionHint(partition) {
  if (partition === undefined || partition === null) return -1;
  if (!Number.isInteger(partition) || partition < 0 || partition > 0x7fffffff) throw new TypeError("partition must be a whole number from 0");
  return partition;
}

function resultOf(item, source, handle, outputs) {
  const entry = (output, partition, passed, key, value, headers) => ({
    output, partition, passed, key: Bytes.kept(key), value: Bytes.kept(value), headers: new Headers(headers),
  });
  const pass = (output, partition) => entry(output, partition, true, source.key, source.value, source.headers);
  if (item === undefined || item === null || item === false) return [];
  if (item === true) return [pass(outputs[0], -1)];
  if (item === handle) {
    const { changed, key, value, headers } = handle.written();
    return [changed ? entry(outputs[0], -1, false, key, value, headers) : pass(outputs[0], -1)];
  }
  if (item instanceof Promise) throw new TypeError("a transform must not be async: it has nothing to wait for");
  if (typeof item !== "object" || Array.isArray(item) || item instanceof Bytes || item instanceof ArrayBuffer || ArrayBuffer.isView(item) || item instanceof SourceRecord) {
    throw new TypeError("a transform returns nothing, true or false, its record, {key, value, headers, output, partition}, or a list of these");
  }
  const unknown = Object.keys(item).find((name) => !fields.includes(name));
  if (unknown !== undefined) {
    const why = unknown === "timestamp" ? " (the timestamp is always the source record's)" : "";
    throw new TypeError(`a result has no field ${unknown}: it has key, value, headers, output and partition${why}`);
  }
  const output = outputName(item.output, outputs), partition = partitionHint(item.partition);
  if (item.key === undefined && item.value === undefined && item.headers === undefined) return [pass(output, partition)];
  const key = item.key === undefined ? source.key : toBytes(item.key, "key");
  const value = item.value === undefined ? source.value : toBytes(item.value, "value");
  return [entry(output, partition, false, key, value, headerPairs(item.headers, source))];
}

// --- time and random numbers: those of the record, as docs/ABI.md section 6 defines them ---

const U64 = (1n << 64n) - 1n;
const GAMMA = 0x9e3779b97f4a7c15n;

function mix(z) {
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & U64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & U64;
  return z ^ (z >> 31n);
}

/** The random numbers of the record at that offset, in a partition with that seed. */
export function randomOf(seed, offset) {
  let state = mix(((BigInt.asUintN(64, BigInt(seed)) ^ BigInt.asUintN(64, BigInt(offset))) + GAMMA) & U64);
  return () => {
    state = (state + GAMMA) & U64;
    return Number(mix(state) >> 11n) / 2 ** 53;
  };
}

function inTheRecordsWorld(source, seed, fn) {
  const { Date: RealDate } = globalThis, { random } = Math;
  const now = Math.max(source.timestamp, 0);
  globalThis.Date = class Date extends RealDate {
    constructor(...parts) {
      super(...(parts.length === 0 ? [now] : parts));
    }
    static now() {
      return now;
    }
  };
  Math.random = randomOf(seed, source.offset);
  try {
    return fn();
  } finally {
    globalThis.Date = RealDate;
    Math.random = random;
  }
}

/** What a transform threw, with the index of its record. */
export class TransformError extends Error {
  constructor(cause, index) {
    super(`record ${index}: ${cause?.message ?? cause}`, { cause });
    this.name = "TransformError";
    this.index = index;
  }
}

function sourceOf(record, index, inputs) {
  const list = Array.isArray(record.headers) ? record.headers : Object.entries(record.headers ?? {});
  return {
    topic: record.topic ?? inputs[0],
    partition: record.partition ?? 0,
    offset: record.offset ?? index,
    timestamp: record.timestamp ?? index,
    key: record.key === undefined ? null : toBytes(record.key, "key"),
    value: record.value === undefined ? null : toBytes(record.value, "value"),
    headers: list.map(([name, value]) => [name, toBytes(value, "a header's value")]),
  };
}

/**
 * Runs fn on each record and returns what it wrote, in order: {source, output, partition, passed, key, value, headers}.
 * A record is {key, value, headers, topic, partition, offset, timestamp}, each optional.
 */
export function run(fn, records, options = {}) {
  const { env = {}, script = "test", inputs = ["in"], outputs = ["out"], seed = 0, log = console } = options;
  const context = Object.freeze({
    log, script, inputs, outputs,
    env: Object.freeze({ ...env, MILLRACE_SCRIPT: script }),
  });
  const written = [];
  records.forEach((record, index) => {
    turn++;
    const source = sourceOf(record, index, inputs), handle = new SourceRecord(source);
    try {
      const result = inTheRecordsWorld(source, seed, () => fn(handle, context));
      for (const item of Array.isArray(result) ? result : [result]) {
        for (const entry of resultOf(item, source, handle, outputs)) written.push({ source: index, ...entry });
      }
    } catch (cause) {
      throw new TransformError(cause, index);
    } finally {
      turn++;
    }
  });
  return written;
}
