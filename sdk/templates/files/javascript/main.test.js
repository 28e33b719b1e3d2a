import assert from "node:assert";
import test from "node:test";
import { run } from "./millrace-sdk/testing.js";
import transform from "./main.js";

test("keeps urgent records and masks their email", () => {
  const written = run(transform, [
    { key: "1", value: { id: 1, urgent: true, email: "ann@example.com" } },
    { key: "2", value: { id: 2, urgent: false, email: "bob@example.com" } },
  ]);
  assert.equal(written.length, 1);
  assert.equal(written[0].key.text(), "1");
  assert.deepEqual(written[0].value.json(), { id: 1, urgent: true, email: "***" });
});

test("drops records without a value", () => {
  assert.deepEqual(run(transform, [{ key: "1", value: null }]), []);
});
