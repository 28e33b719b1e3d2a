// A host for the engine's tests, on Node's WebAssembly: the exports and imports of docs/ABI.md, with no checks of its own.
import { readFileSync } from "node:fs";

const text = new TextEncoder();

export class Failure extends Error {
  constructor(source, message) {
    super(message);
    this.source = source;
  }
}

export class Guest {
  constructor(module, { env = {}, mode = "load", script } = {}) {
    this.lines = [];
    this.env = env;
    this.instance = new WebAssembly.Instance(module, this.#imports(module));
    this.exports = this.instance.exports;
    this.exports._initialize?.();
    if (this.exports.millrace_abi() !== 1) throw new Error("another ABI");
    if (script === undefined) return;
    const code = text.encode(script);
    const at = this.exports.millrace_alloc(code.length);
    this.bytes(at, code.length).set(code);
    const loaded = mode === "snapshot" ? this.exports.millrace_snapshot(at, code.length) : this.exports.millrace_load(at, code.length);
    if (loaded !== 0) throw this.failure();
  }

  bytes(at, length) {
    return new Uint8Array(this.exports.memory.buffer, at, length);
  }

  range(answer) {
    const n = BigInt.asUintN(64, answer);
    return this.bytes(Number(n >> 32n), Number(n & 0xffffffffn)).slice();
  }

  failure() {
    const frame = this.range(this.exports.millrace_error());
    return new Failure(new DataView(frame.buffer).getInt32(0, true), new TextDecoder().decode(frame.subarray(4)));
  }

  process(frame) {
    const at = this.exports.millrace_alloc(frame.length);
    this.bytes(at, frame.length).set(frame);
    const answer = this.exports.millrace_process(at, frame.length);
    if (answer === -1n) throw this.failure();
    return this.range(answer);
  }

  #imports(module) {
    const view = () => new DataView(this.exports.memory.buffer);
    const vars = () => Object.entries(this.env).map(([name, value]) => text.encode(`${name}=${value}\0`));
    const known = {
      "millrace.log": (level, at, length) => this.lines.push([level, new TextDecoder().decode(this.bytes(at, length))]),
      "wasi_snapshot_preview1.environ_sizes_get": (count, size) => {
        view().setUint32(count, vars().length, true);
        view().setUint32(size, vars().reduce((n, v) => n + v.length, 0), true);
        return 0;
      },
      "wasi_snapshot_preview1.environ_get": (list, at) => {
        for (const v of vars()) {
          view().setUint32(list, at, true);
          this.bytes(at, v.length).set(v);
          list += 4;
          at += v.length;
        }
        return 0;
      },
    };
    const imports = {};
    for (const { module: from, name } of WebAssembly.Module.imports(module)) {
      (imports[from] ??= {})[name] = known[`${from}.${name}`] ?? (() => 52); // ENOSYS
    }
    return imports;
  }
}

export const engineModule = (path) => new WebAssembly.Module(readFileSync(path));

const ENV = { MILLRACE_SCRIPT: "scrub", MILLRACE_INPUT_0: "orders", MILLRACE_INPUT_1: "returns", MILLRACE_OUTPUT_0: "clean", MILLRACE_OUTPUT_1: "rest" };

// script wraps a function's text as the bundler does.
export const guest = (module, body, options = {}) =>
  new Guest(module, { env: { ...ENV, ...options.env }, ...options, script: `"use strict"; var __millrace_main = { default: ${body} };` });

const hex = (bytes) => (bytes === null ? null : Buffer.from(bytes).toString("hex"));

// encodeInput builds an input frame; keys and values are text, bytes or null.
export function encodeInput({ topic = 0, partition = 0, base, seed = 0n, records }) {
  const toBytes = (v) => (v === null || v === undefined ? null : typeof v === "string" ? text.encode(v) : v);
  const parts = records.map((r, i) => {
    const key = toBytes(r.key), value = toBytes(r.value);
    const headers = (r.headers ?? []).map(([k, v]) => [toBytes(k), toBytes(v)]);
    let size = 32 + (key?.length ?? 0) + (value?.length ?? 0);
    for (const [k, v] of headers) size += 8 + k.length + (v?.length ?? 0);
    size = (size + 7) & ~7;
    const b = Buffer.alloc(size);
    b.writeUInt32LE(size, 0);
    b.writeUInt32LE(headers.length, 4);
    b.writeBigInt64LE(BigInt(r.offset ?? i), 8);
    b.writeBigInt64LE(BigInt(r.timestamp ?? 1700000000000 + i), 16);
    b.writeInt32LE(key?.length ?? -1, 24);
    b.writeInt32LE(value?.length ?? -1, 28);
    let at = 32;
    for (const bytes of [key, value]) if (bytes) b.set(bytes, at), (at += bytes.length);
    for (const [k, v] of headers) {
      b.writeInt32LE(k.length, at);
      b.writeInt32LE(v?.length ?? -1, at + 4);
      b.set(k, at + 8);
      if (v) b.set(v, at + 8 + k.length);
      at += 8 + k.length + (v?.length ?? 0);
    }
    return b;
  });
  const head = Buffer.alloc(40);
  const size = parts.reduce((n, p) => n + p.length, 40);
  head.writeUInt32LE(0x3149524d, 0);
  head.writeUInt16LE(1, 4);
  head.writeUInt16LE(topic, 6);
  head.writeInt32LE(partition, 8);
  head.writeUInt32LE(parts.length, 12);
  head.writeBigInt64LE(BigInt(base ?? records[0]?.offset ?? 0), 16);
  head.writeBigUInt64LE(BigInt(seed), 24);
  head.writeUInt32LE(size, 32);
  return Buffer.concat([head, ...parts]);
}

// decodeOutput reads an output frame into the shape of the vectors' entries, keys and values as hex.
export function decodeOutput(bytes) {
  const b = Buffer.from(bytes), entries = [];
  if (b.length === 0) return entries;
  if (b.readUInt32LE(0) !== 0x314f524d || b.readUInt32LE(8) !== b.length) throw new Error("bad output frame");
  let at = 16;
  for (let i = b.readUInt32LE(12); i > 0; i--) {
    const size = b.readUInt32LE(at), pass = (b.readUInt16LE(at + 10) & 1) === 1;
    const e = { source: b.readUInt32LE(at + 4), output: b.readUInt16LE(at + 8), pass, partition: b.readInt32LE(at + 12), key: null, value: null, headers: [] };
    let p = at + 32;
    const take = (n) => (n < 0 ? null : hex(b.subarray(p, (p += n))));
    if (!pass) {
      e.key = take(b.readInt32LE(at + 20));
      e.value = take(b.readInt32LE(at + 24));
      for (let h = b.readUInt32LE(at + 16); h > 0; h--) {
        const k = b.readInt32LE(p), v = b.readInt32LE(p + 4);
        p += 8;
        e.headers.push({ key: take(k), value: take(v) });
      }
    }
    entries.push(e);
    at += size;
  }
  if (at !== b.length) throw new Error("bytes after the last entry");
  return entries;
}
