// The engine, run by Node: the shared cases, the shared vectors, and what only the engine has. MILLRACE_JS_ENGINE names another file.
import assert from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import test from "node:test";
import { randomOf } from "../testing.js";
import { cases, environment, seed } from "./cases.mjs";
import { decodeOutput, encodeInput, engineModule, Failure, Guest, guest } from "./host.mjs";

const path = process.env.MILLRACE_JS_ENGINE ?? new URL("../../../build/js-engine/millrace-js.wasm", import.meta.url).pathname;
const skip = existsSync(path) ? false : `${path} is not built: run sdk/js/engine/build.sh`;
const engine = skip ? null : engineModule(path);
const vectors = (name) => JSON.parse(readFileSync(new URL(`../../../sidecar/abi/testdata/vectors/${name}`, import.meta.url)));
const text = (hex) => (hex === null ? null : Buffer.from(hex, "hex").toString());
const outputs = ["clean", "rest"];
const load = (fn, options) => guest(engine, String(fn), { env: environment, ...options });

for (const c of cases) {
  test(c.name, { skip }, () => {
    for (const again of [false, true]) { // an instance is still good after a failure, and after a batch
      const g = load(c.fn), frame = encodeInput({ seed, records: c.records });
      if (again) try { g.process(frame); } catch {}
      if (again && c.name.includes("kept")) continue; // a global of the first batch
      if (c.error) {
        assert.throws(() => g.process(frame), (e) => e instanceof Failure && e.source === c.error[0] && e.message.includes(c.error[1]));
        continue;
      }
      const got = decodeOutput(g.process(frame)).map((e) =>
        e.pass
          ? [e.source, outputs[e.output], e.partition, "pass"]
          : [e.source, outputs[e.output], e.partition, text(e.key), text(e.value), e.headers.map((h) => [text(h.key), text(h.value)])],
      );
      const want = c.random
        ? c.records.map((r, i) => {
            const next = randomOf(seed, r.offset);
            return [i, "clean", -1, "k", JSON.stringify([next(), next()]), []];
          })
        : c.want;
      assert.deepEqual(got, want);
    }
  });
}

test("input vectors", { skip }, () => {
  for (const v of vectors("input.json")) {
    const g = load((r) => ({
      key: r.key, headers: r.headers,
      value: r.value === null ? null : r.value.bytes(),
    }), { env: { ...environment, MILLRACE_INPUT_0: "orders" } });
    const frame = Buffer.from(v.frame, "hex");
    if (v.error) {
      assert.throws(() => g.process(frame), (e) => e.source === -1 && e.message.includes("input frame"), v.name);
      continue;
    }
    const got = decodeOutput(g.process(frame)).map((e) => ({ key: e.key, value: e.value, headers: e.headers }));
    assert.deepEqual(got, v.records.map(({ key, value, headers }) => ({ key, value, headers: headers ?? [] })), v.name);
    const numbers = load((r) => ({ value: [String(r.offset), String(r.timestamp), r.partition] }));
    const seen = decodeOutput(numbers.process(frame)).map((e) => JSON.parse(text(e.value)));
    assert.deepEqual(seen, v.records.map((r) => [String(Number(r.offset)), String(Number(r.timestamp)), v.partition]), v.name);
  }
});

test("output vectors", { skip }, () => {
  const data = (hex) => (hex === null ? null : Buffer.from(hex, "hex"));
  for (const v of vectors("output.json")) {
    if (v.error || v.name === "no entries") continue; // the engine answers the empty range then
    // The script is told what to write by its own records: one for each entry of the source.
    const plan = Array.from({ length: v.sources }, (_, i) => (v.entries ?? []).filter((e) => e.source === i));
    const bytes = (hex) => (hex === null ? null : Array.from(data(hex)));
    const records = plan.map((entries) => ({
      value: JSON.stringify(entries.map((e) => ({ ...e, key: bytes(e.key), value: bytes(e.value), headers: e.headers.map((h) => [text(h.key), bytes(h.value)]) }))),
    }));
    const g = load((r) => {
      const data = (list) => (list === null ? null : new Uint8Array(list));
      return r.json().map((e) => ({
        output: e.output, partition: e.partition < 0 ? undefined : e.partition,
        ...(e.pass ? {} : { key: data(e.key), value: data(e.value), headers: e.headers.map(([k, v]) => [k, data(v)]) }),
      }));
    });
    assert.equal(Buffer.from(g.process(encodeInput({ records }))).toString("hex"), v.frame, v.name);
  }
});

test("random vectors", { skip }, () => {
  for (const v of vectors("random.json")) {
    const g = load(() => ({ value: [Math.random(), Math.random(), Math.random(), Math.random()] }));
    const [e] = decodeOutput(g.process(encodeInput({ seed: BigInt(v.seed), records: [{ value: "", offset: BigInt(v.offset) }] })));
    assert.deepEqual(JSON.parse(text(e.value)), v.floats);
  }
});

test("results do not depend on how batches are cut", { skip }, () => {
  const fn = (r) => ({ value: [r.offset, Math.random(), Date.now()] });
  const records = Array.from({ length: 50 }, (_, i) => ({ value: "v", offset: i * 3, timestamp: 1000 + i }));
  const whole = decodeOutput(load(fn).process(encodeInput({ seed, records }))).map((e) => text(e.value));
  const g = load(fn);
  const cut = [records.slice(0, 7), records.slice(7, 8), records.slice(8)].flatMap((part) => decodeOutput(g.process(encodeInput({ seed, records: part }))));
  assert.deepEqual(cut.map((e) => text(e.value)), whole);
});

test("log, with levels", { skip }, () => {
  const g = load((r, { log }) => { console.log("a", { b: 1 }, null, 5n); console.error(new Error("boom")); log.warn("w"); log.debug("d"); });
  g.process(encodeInput({ records: [{ value: "" }] }));
  assert.deepEqual(g.lines.map(([level, line]) => [level, line.split("\n")[0]]), [[1, 'a {"b":1} null 5n'], [3, "Error: boom"], [2, "w"], [0, "d"]]);
});

// The ABI promises a guest 2 MiB of stack, and Node's first compiler makes larger frames: node --stack-size=3900 engine.test.mjs
const shallow = process.execArgv.some((flag) => flag.startsWith("--stack-size")) ? false : "node's own stack is too small";

test("deep recursion is an error, and the instance lives", { skip: skip || shallow }, () => {
  for (const fn of [
    (r) => { const f = (n) => f(n + 1) + 1; return r.key === null ? f(0) : r; },
    (r) => { const f = () => [1].map(() => f())[0]; return r.key === null ? f() : r; },
    (r) => (r.key === null ? { value: JSON.parse("[".repeat(100000)) } : r),
  ]) {
    const g = load(fn);
    assert.throws(() => g.process(encodeInput({ records: [{ value: "" }] })), (e) => e instanceof Failure && e.source === 0 && /stack/.test(e.message));
    assert.equal(decodeOutput(g.process(encodeInput({ records: [{ key: "k", value: "" }] }))).length, 1);
  }
});

test("memory does not grow with batches", { skip }, () => {
  const g = load((r) => {
    const v = r.json();
    r.headers.append("x", "y");
    globalThis.last = r.value; // kept, so that handles are replaced
    Promise.resolve(1).then(() => 2);
    return [{ value: v, headers: r.headers }, r];
  });
  const frame = encodeInput({ records: Array.from({ length: 200 }, (_, i) => ({ key: "k", value: JSON.stringify({ i, pad: "x".repeat(500) }), headers: [["a", "b"]] })) });
  for (let i = 0; i < 30; i++) g.process(frame);
  const after = g.exports.memory.buffer.byteLength;
  for (let i = 0; i < 300; i++) g.process(frame);
  assert.equal(g.exports.memory.buffer.byteLength, after);
});

test("scripts that do not load say why", { skip }, () => {
  for (const [code, want] of [
    ["var x = ;", "SyntaxError"],
    ["throw new Error('at the top')", "at the top"],
    ["var __millrace_main = {}", "the script exports no transform"],
    ["var __millrace_main = { default: 5 }", "the script exports no transform"],
  ]) {
    assert.throws(() => new Guest(engine, { script: code }), (e) => e.source === -1 && e.message.includes(want), code);
  }
  const g = new Guest(engine, {});
  assert.throws(() => g.process(encodeInput({ records: [{ value: "" }] })), /no script is loaded/);
});

test("a transform is found however it is exported", { skip }, () => {
  for (const code of [
    "var __millrace_main = (r) => r",
    "var __millrace_main = { default: (r) => r }",
    "var __millrace_main = { default: { default: (r) => r } }",
    "__millrace.transform((r) => r)",
  ]) {
    assert.equal(decodeOutput(new Guest(engine, { script: code, env: environment }).process(encodeInput({ records: [{ value: "" }] }))).length, 1, code);
  }
});

test("a snapshot knows no environment at its top level", { skip }, () => {
  assert.throws(() => guest(engine, "process.env.REGION", { mode: "snapshot" }), (e) => /not known while a script is packed/.test(e.message));
  const g = guest(engine, "(r, c) => ({ value: c.env.REGION })", { mode: "snapshot", env: environment });
  assert.equal(text(decodeOutput(g.process(encodeInput({ records: [{ value: "" }] })))[0].value), "eu");
});

test("few imports", { skip }, () => {
  const names = WebAssembly.Module.imports(engine).map((i) => `${i.module}.${i.name}`);
  for (const name of names) assert.match(name, /^(millrace\.log|wasi_snapshot_preview1\.(environ_get|environ_sizes_get))$/);
});

test("damaged frames are errors, never traps", { skip }, () => {
  const g = load((r) => ({ key: r.value, value: r.key, headers: r.headers }));
  const good = encodeInput({ records: [{ key: "key", value: '{"a":1}', headers: [["h", "v"], ["n", null]] }, { key: null, value: "", headers: [["x", ""]] }, { key: "k" }] });
  const next = randomOf(1, 1); // the same damage every time
  let refused = 0;
  for (let i = 0; i < 5000; i++) {
    const frame = Buffer.from(good);
    for (let n = 1 + next() * 3; n > 0; n--) {
      const at = Math.floor(next() * frame.length);
      frame[at] = [0, 1, 0xff, 0x7f, 0x80, Math.floor(next() * 256)][Math.floor(next() * 6)];
    }
    try {
      decodeOutput(g.process(frame));
    } catch (e) {
      assert.ok(e instanceof Failure, `${e} on ${frame.toString("hex")}`);
      refused++;
    }
  }
  assert.ok(refused > 1000 && refused < 5000, `${refused} refused`);
  assert.equal(decodeOutput(g.process(good)).length, 3);
});

// capped returns the engine with a maximum of 256 pages (16 MiB) written into its memory section.
function capped() {
  const bytes = readFileSync(path), at = bytes.indexOf(Buffer.from([5, 3, 1, 0]));
  assert.ok(at > 0 && bytes[at + 4] < 128);
  return new WebAssembly.Module(Buffer.concat([bytes.subarray(0, at), Buffer.from([5, 5, 1, 1, bytes[at + 4], 0x80, 2]), bytes.subarray(at + 5)]));
}

test("a script that takes all memory fails, by name", { skip }, () => {
  const g = guest(capped(), String((r) => { if (r.key !== null) return r; const all = []; for (;;) all.push(new Uint8Array(64 << 10)); }), { env: environment });
  assert.throws(() => g.process(encodeInput({ records: [{ value: "" }] })), (e) => e instanceof Failure && e.source === 0 && /memory/.test(e.message));
  assert.equal(decodeOutput(g.process(encodeInput({ records: [{ key: "k", value: "" }] }))).length, 1);
});

test("JSON of a result is JSON.stringify's", { skip }, () => {
  const g = load((r) => {
    const step = (n, of) => (n === 0 ? of : { a: [step(n - 1, of)] });
    const pad = (n) => "abcdefgh".repeat(n);
    const odd = [, 1, , 2], longer = [1, 2], shorter = [1, 2, 3], named = [1], deleted = { a: 1, b: 2, c: 3 }, shared = { s: [1] };
    longer.length = 4;
    shorter.length = 1;
    named.x = 1;
    delete deleted.b;
    class Point { constructor() { this.x = 1; } get y() { return 2; } }
    class Shown { toJSON() { return { shown: true }; } }
    class List extends Array { toJSON() { return "list"; } }
    const values = [
      {}, [], { a: undefined }, { a: null, b: true, c: false, d: undefined, e: 1 }, [undefined, null, () => 1, Symbol("s")], { f() {}, g: Symbol("s"), h: 1 },
      [0, -0, 1, -1, 2147483647, 2147483648, 1e21, 1e-7, 123456789.125, 0.1 + 0.2, 5e-324, 1.7976931348623157e308, NaN, Infinity, -Infinity],
      [Array.from({ length: 300 }, (_, i) => String.fromCharCode(i)).join("")], Array.from({ length: 300 }, (_, i) => ({ ["k" + String.fromCharCode(i)]: String.fromCharCode(i) })),
      ["ü", "é".repeat(20), "\u20ac", "\u{1f600}", "\ud800", "\udc00x", "a\ud83d\ude00b\u0001\"\\/", "\u2028\u2029\u007f"],
      ["abcdefg\"", "abcdefgh\"", "\"bcdefgh", "abc\\defghijk", "abcdefgh\u0007ijklmnop", pad(50) + "ü" + pad(3)], { ["ü"]: 1, ["\u20ac"]: 2, "a\"b": 3, "": 4 },
      { b: 1, 2: 2, a: 3, 1: 4 }, { 4294967294: 1, a: 2, 3000000000: 3, "-1": 4, "01": 5, "1e3": 6 }, odd, longer, shorter, named, deleted,
      { a: shared, b: shared }, new Point(), new Shown(), { in: new Shown() }, [new Shown()], List.of(1), new Date(0), new Map([[1, 2]]), new Set([1]),
      Object.create(null), Object.assign(Object.create(null), { a: 1 }), Object.create({ inherited: 1 }), { toJSON() { return 7; } }, { toJSON: 1, a: 2 },
      { get a() { return 1; } }, Object.defineProperty({ b: 1 }, "hidden", { value: 1 }), Object.freeze({ a: [1] }), [new String("s"), new Number(1), new Boolean(false)],
      { [Symbol("s")]: 1, a: 2 }, new Proxy({ a: 1 }, {}), step(20, "end"), step(100, "end"), { rope: pad(200) + r.offset + pad(200) }, new Error("e"), /x/, r.json(),
      { text: r.text() }, JSON.parse('{"__proto__":1,"a":{"toJSON":null}}'), [[[]], [{}]], { a: "x".repeat(100000) + "\n" },
    ];
    const entries = values.map((value) => ({ value, headers: { want: JSON.stringify(value) } }));
    entries.push({ key: { k: [1] }, value: { v: [2] }, headers: [["want", '{"v":[2]}'], ["h", { deep: { er: "3" } }]] });
    return entries;
  });
  const frame = encodeInput({ records: [{ key: "k", value: '{"amount":12.50,"name":"Zürich \\u00e9 \\ud83d\\ude00","list":[1,2,{"x":null}]}' }] });
  for (const _ of [1, 2]) { // the text's buffer is used again
    const entries = decodeOutput(g.process(frame));
    assert.equal(entries.length, 50);
    for (const [i, e] of entries.entries()) assert.equal(text(e.value), text(e.headers[0].value), `value ${i}`);
    assert.equal(text(entries.at(-1).key), '{"k":[1]}');
    assert.equal(text(entries.at(-1).headers[1].value), '{"deep":{"er":"3"}}');
  }
  for (const [fn, message] of [
    [() => { const o = {}; o.o = [o]; return { value: o }; }, "circular"],
    [() => ({ value: { a: 10n } }), "BigInt"],
    [() => ({ value: { get a() { throw new Error("no a"); } } }), "no a"],
  ]) assert.throws(() => load(fn).process(frame), (e) => e instanceof Failure && e.message.includes(message));
  for (const proto of ["Object", "Array"]) {
    const changed = load(`() => { ${proto}.prototype.toJSON = function () { return "changed"; }; return { value: { a: [1] } }; }`);
    assert.equal(text(decodeOutput(changed.process(frame))[0].value), proto === "Object" ? '"changed"' : '{"a":"changed"}');
  }
});
