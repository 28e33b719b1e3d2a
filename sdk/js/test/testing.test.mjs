import assert from "node:assert";
import { readFileSync } from "node:fs";
import test from "node:test";
import { env, log, transform } from "../index.js";
import { randomOf, run, TransformError } from "../testing.js";
import { cases, environment, seed } from "./cases.mjs";

const options = { env: { REGION: "eu" }, script: "scrub", inputs: ["orders", "returns"], outputs: ["clean", "rest"], seed };

for (const c of cases) {
  test(c.name, () => {
    if (c.error) {
      assert.throws(
        () => run(c.fn, c.records, options),
        (e) => e instanceof TransformError && e.index === c.error[0] && e.message.includes(c.error[1]),
      );
      return;
    }
    const got = run(c.fn, c.records, options).map((w) =>
      w.passed
        ? [w.source, w.output, w.partition, "pass"]
        : [w.source, w.output, w.partition, w.key?.text() ?? null, w.value?.text() ?? null, [...w.headers]],
    );
    const want = c.random
      ? c.records.map((r, i) => {
          const next = randomOf(seed, r.offset);
          return [i, "clean", -1, "k", JSON.stringify([next(), next()]), []];
        })
      : c.want;
    assert.deepEqual(got, want);
  });
}

test("random vectors", () => {
  for (const v of JSON.parse(readFileSync(new URL("../../../sidecar/abi/testdata/vectors/random.json", import.meta.url)))) {
    const next = randomOf(v.seed, v.offset);
    assert.deepEqual(v.floats.map(() => next()), v.floats);
  }
});

test("the world is put back", () => {
  const { Date: RealDate } = globalThis, { random } = Math;
  assert.throws(() => run(() => { throw new Error("x"); }, [{}]));
  assert.equal(globalThis.Date, RealDate);
  assert.equal(Math.random, random);
});

test("index.js without a host", () => {
  const fn = (r) => r;
  assert.equal(transform(fn), fn);
  assert.equal(env.PATH, process.env.PATH);
  assert.ok("PATH" in env && Object.keys(env).includes("PATH"));
  assert.equal(typeof log.info, "function");
  assert.ok(environment.REGION);
});
