// dump ENGINE SCRIPT MEMORY: loads a script as a snapshot build does, writes the memory, prints the exported mutable globals as JSON.
// run MODULE: runs a packed module on three records and prints what it wrote.
import { readFileSync, writeFileSync } from "node:fs";
import { decodeOutput, encodeInput, engineModule, Guest } from "../../test/host.mjs";

const [mode, file, script, memory] = process.argv.slice(2);
if (mode === "dump") {
  const g = new Guest(engineModule(file), { mode: "snapshot", script: readFileSync(script, "utf8") });
  writeFileSync(memory, new Uint8Array(g.exports.memory.buffer));
  const globals = Object.entries(g.exports).filter(([, e]) => e instanceof WebAssembly.Global);
  console.log(JSON.stringify(Object.fromEntries(globals.map(([name, global]) => [name, global.value >>> 0]))));
} else {
  const g = new Guest(engineModule(file), { env: { GREETING: "hello", MILLRACE_INPUT_0: "orders", MILLRACE_OUTPUT_0: "clean" } });
  const frame = encodeInput({ seed: 7n, records: [{ value: '{"n":1}' }, { value: '{"n":2}' }, { value: "drop" }] });
  for (let i = 0; i < 2; i++) {
    const entries = decodeOutput(g.process(frame));
    console.log(JSON.stringify(entries.map((e) => Buffer.from(e.value, "hex").toString())));
  }
  console.log(Object.keys(g.exports).sort().join(" "));
}
