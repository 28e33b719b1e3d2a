// The JavaScript guest of the fault tests: see ../go/main.go, which does the same.

const hash = (n) => Math.imul(n, 2654435761) >>> 8;
const kept = [];

const write = (record, env, key, output) => ({
  key,
  value: `${env.VERSION}:${record.offset}:${record.text()}`,
  headers: record.headers,
  output,
});

function forever() {
  for (let i = 0; ; i++) if (i < 0) return;
}

const roles = {
  pass: (record) => record,
  filter: (record, env, h) => (h % 1000 === 0 ? write(record, env, record.key, 0) : null),
  fan: (record, env, h) => {
    const all = [write(record, env, record.key, 0)];
    for (let i = 0; i < h % 3; i++) all.push(write(record, env, record.key, 1));
    return all;
  },
  rekey: (record, env, h) => write(record, env, `r${h % 23}`, 0),
  late: (record, env, h) => {
    if (h % 400 === 0) forever();
    return write(record, env, record.key, 0);
  },
  half: (record, env, h) => (h % 2 === 0 ? null : record),
  none: () => null,
  throw: (record, env, h, n) => {
    if (n % 100000 === 99999) throw new Error("one of 100,000");
    return record;
  },
  loop: forever,
  allocate: () => {
    for (;;) kept.push(new Uint8Array(1 << 20));
  },
};

/** @type {import("@millrace/sdk").Transform} */
export default function (record, { env }) {
  const n = Number(record.text());
  return roles[env.ROLE](record, env, hash(n), n);
}
