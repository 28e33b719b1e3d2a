// What a transform may do, run against the engine and against testing.js. `fn` is carried to the engine as its text: it may use
// nothing from outside. `want` lists [source, output, partition, key, value, headers] or "pass"; `error` is [source, part of the text].
const pass = (source, output = "clean", partition = -1) => [source, output, partition, "pass"];
const wrote = (source, key, value, { headers = [], output = "clean", partition = -1 } = {}) => [source, output, partition, key, value, headers];

const two = [{ key: "k", value: "one" }, { key: null, value: "two" }];
const withHeaders = [{ key: "k", value: "v", headers: [["a", "1"], ["b", null], ["a", "2"]] }];

export const cases = [
  { name: "nothing drops", fn: () => {}, records: two, want: [] },
  { name: "null and false drop", fn: (r) => (r.key === null ? null : false), records: two, want: [] },
  { name: "the record passes", fn: (r) => r, records: two, want: [pass(0), pass(1)] },
  { name: "true passes", fn: (r) => r.value.includes("one"), records: two, want: [pass(0)] },
  { name: "a result without data passes to an output", fn: () => ({ output: "rest", partition: 3 }), records: two, want: [pass(0, "rest", 3), pass(1, "rest", 3)] },
  { name: "an output by number", fn: () => ({ output: 1 }), records: two.slice(1), want: [pass(0, "rest")] },
  { name: "an array fans out", fn: (r) => [r, null, { value: "x" }, { output: "rest" }], records: two.slice(0, 1), want: [pass(0), wrote(0, "k", "x"), pass(0, "rest")] },
  { name: "an empty array drops", fn: () => [], records: two, want: [] },
  { name: "a value keeps key and headers", fn: () => ({ value: "x" }), records: withHeaders, want: [wrote(0, "k", "x", { headers: [["a", "1"], ["b", null], ["a", "2"]] })] },
  { name: "null is null", fn: () => ({ key: null, value: null, headers: null }), records: withHeaders, want: [wrote(0, null, null)] },
  { name: "empty is empty", fn: () => ({ key: "", value: new Uint8Array(0) }), records: two.slice(0, 1), want: [wrote(0, "", "")] },
  { name: "null value, methods", fn: (r) => ({ value: [r.value === null, r.text(), r.json()] }), records: [{ key: "k", value: null }], want: [wrote(0, "k", "[true,null,null]")] },
  { name: "objects are JSON", fn: () => ({ key: 5, value: { a: [1, "é", null] } }), records: two.slice(0, 1), want: [wrote(0, "5", '{"a":[1,"é",null]}')] },
  { name: "typed arrays and buffers", fn: () => ({ key: new Uint8Array([104, 105]).buffer, value: new Uint8Array([97, 98, 99, 100]).subarray(1, 3) }), records: two.slice(0, 1), want: [wrote(0, "hi", "bc")] },
  { name: "key and value as bytes", fn: (r) => ({ key: r.value, value: r.key }), records: two, want: [wrote(0, "one", "k"), wrote(1, "two", null)] },
  { name: "setters", fn: (r) => { r.value = r.text() + "!"; return r; }, records: two, want: [wrote(0, "k", "one!"), wrote(1, null, "two!")] },
  { name: "setters and handles", fn: (r) => { const before = r.value; r.value = "new"; r.key = before; r.value = before.text() + r.value.text(); return r; }, records: two.slice(0, 1), want: [wrote(0, "one", "onenew")] },
  { name: "set to null and to JSON", fn: (r) => { r.key = null; r.value = { n: 1 }; return [r, { value: r.json() }]; }, records: two.slice(0, 1), want: [wrote(0, null, '{"n":1}'), wrote(0, "k", '{"n":1}')] },
  { name: "changed headers", fn: (r) => { r.headers.set("a", "3").append("c", null); r.headers.delete("b"); return r; }, records: withHeaders, want: [wrote(0, "k", "v", { headers: [["a", "3"], ["c", null]] })] },
  { name: "headers read only pass", fn: (r) => r.headers.get("a") === "1" && r.headers.get("b") === null && r.headers.get("z") === undefined && r.headers.size === 3 ? r : null, records: withHeaders, want: [pass(0)] },
  { name: "headers as object, list and Headers", fn: (r) => [{ headers: { x: "1", y: null } }, { headers: [["x", "1"], ["x", new Uint8Array([50])]] }, { headers: r.headers }], records: withHeaders,
    want: [wrote(0, "k", "v", { headers: [["x", "1"], ["y", null]] }), wrote(0, "k", "v", { headers: [["x", "1"], ["x", "2"]] }), wrote(0, "k", "v", { headers: [["a", "1"], ["b", null], ["a", "2"]] })] },
  { name: "iterating headers", fn: (r) => ({ value: [...r.headers], headers: null }), records: withHeaders, want: [wrote(0, "k", '[["a","1"],["b",null],["a","2"]]')] },
  { name: "where a record is from", fn: (r, c) => ({ value: [r.topic, r.partition, r.offset, r.timestamp, Date.now(), new Date().getTime(), c.script, c.inputs, c.outputs, c.env.REGION] }),
    records: [{ key: "k", value: "v", offset: 9007199254740991, timestamp: 1700000000123 }],
    want: [wrote(0, "k", '["orders",0,9007199254740991,1700000000123,1700000000123,1700000000123,"scrub",["orders","returns"],["clean","rest"],"eu"]')] },
  { name: "search", fn: (r) => { const v = r.value; return { value: [v.length, v.includes("wörld"), v.indexOf("l"), v.indexOf("l", 4), v.indexOf("zz"), v.includes(""), v.startsWith("hel"), v.endsWith("ld"), v.endsWith("hello wörld and more"), v.equals("hello wörld"), v.equals(null), v.at(0), v.at(-1), v.at(99) === undefined] }; },
    records: [{ key: "k", value: "hello wörld" }], want: [wrote(0, "k", "[12,true,2,3,-1,true,true,true,false,true,false,104,100,true]".replace("2,3,", "2,10,"))] },
  { name: "search by bytes", fn: (r) => ({ value: [r.value.includes(r.key), r.key.includes(r.value), r.value.indexOf(new Uint8Array([50]))] }), records: [{ key: "12", value: "0123" }], want: [wrote(0, "12", "[true,false,2]")] },
  { name: "search in long values", fn: (r) => ({ value: [r.value.indexOf("needle"), r.value.indexOf("needle", 51), r.value.includes("needles"), r.value.endsWith("needle")] }),
    records: [{ key: "k", value: "n".repeat(50) + "needle" + "e".repeat(40) + "needle" }], want: [wrote(0, "k", "[50,96,false,true]")] },
  { name: "text encoder and decoder", fn: () => ({ value: new TextDecoder().decode(new TextEncoder().encode("é→")) }), records: two.slice(0, 1), want: [wrote(0, "k", "é→")] },
  { name: "random numbers are the record's", fn: (r) => ({ value: [Math.random(), Math.random()] }), records: [{ key: "k", value: "v", offset: 41 }, { key: "k", value: "v", offset: 42 }], random: true },
  { name: "JSON of a changed value", fn: (r) => { const v = r.json(); v.email = "***"; return { value: v }; }, records: [{ key: "k", value: '{"id":1,"email":"a@b.example","tags":["x"]}' }], want: [wrote(0, "k", '{"id":1,"email":"***","tags":["x"]}')] },

  { name: "throws", fn: (r) => { if (r.key === null) throw new Error("no key"); return r; }, records: two, error: [1, "no key"] },
  { name: "bad JSON", fn: (r) => ({ value: r.json() }), records: two, error: [0, ""] },
  { name: "undeclared output", fn: () => ({ output: "nowhere" }), records: two, error: [0, 'the script declares no output "nowhere"'] },
  { name: "output beyond the declared", fn: () => ({ output: 2 }), records: two, error: [0, "output 2: the script declares 2"] },
  { name: "bad partition", fn: () => ({ partition: -1 }), records: two, error: [0, "partition must be a whole number from 0"] },
  { name: "partition not whole", fn: () => ({ partition: 1.5 }), records: two, error: [0, "partition must be a whole number from 0"] },
  { name: "mistyped field", fn: () => ({ valeu: 1 }), records: two, error: [0, "a result has no field valeu"] },
  { name: "timestamp", fn: () => ({ timestamp: 1 }), records: two, error: [0, "the timestamp is always the source record's"] },
  { name: "text returned", fn: () => "text", records: two, error: [0, "a transform returns nothing"] },
  { name: "value returned", fn: (r) => r.value, records: two, error: [0, "a transform returns nothing"] },
  { name: "async", fn: async (r) => r, records: two, error: [0, "must not be async"] },
  { name: "function as a value", fn: () => ({ value: () => 1 }), records: two, error: [0, "value must be null, text, bytes, or what JSON can hold"] },
  { name: "undefined set", fn: (r) => { r.value = undefined; }, records: two, error: [0, "record.value must be null, text, bytes, or what JSON can hold"] },
  { name: "record as a value", fn: (r) => ({ value: r }), records: two, error: [0, "value must be null, text, bytes, or what JSON can hold"] },
  { name: "mistyped property set", fn: (r) => { "use strict"; r.valeu = 1; }, records: two, error: [0, "extensible"] },
  { name: "headers of a wrong kind", fn: () => ({ headers: "a" }), records: two, error: [0, "headers must be a list"] },
  { name: "headers not pairs", fn: () => ({ headers: ["a"] }), records: two, error: [0, "headers must be a list"] },
  { name: "record kept", fn: (r) => { globalThis.kept ??= r; return globalThis.kept.offset; }, records: two, error: [0, "a transform returns nothing"] },
  { name: "value kept", fn: (r) => { if (r.offset === 0) { globalThis.keptValue = r.value; return r; } return { value: globalThis.keptValue.text() }; }, records: two, error: [1, "used after its record's turn"] },
  { name: "record of another turn", fn: (r) => { if (r.offset === 0) { globalThis.keptRecord = r; return r; } return { value: globalThis.keptRecord.text() }; }, records: two, error: [1, "used after its turn"] },
  { name: "a kept record returned", fn: (r) => { if (r.offset === 0) { globalThis.keptAgain = r; return r; } return globalThis.keptAgain; }, records: two, error: [1, ""] },
];

export const environment = { REGION: "eu", MILLRACE_SCRIPT: "scrub", MILLRACE_INPUT_0: "orders", MILLRACE_INPUT_1: "returns", MILLRACE_OUTPUT_0: "clean", MILLRACE_OUTPUT_1: "rest" };
export const seed = 0xfedcba9876543210n;
