// The headers of a record, shared by the engine and by testing.js. Names may repeat and keep their order.

function text(value) {
  return value === null || typeof value === "string" ? value : new TextDecoder().decode(value);
}

function bytes(value) {
  if (value === null || value instanceof Uint8Array) return value;
  return new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
}

export class Headers {
  constructor(pairs) {
    this.list = pairs; // [[name, Uint8Array | string | null], ...]; read by the engine
    this.changed = false; // read by the engine
  }
  get size() {
    return this.list.length;
  }
  has(name) {
    return this.list.some((pair) => pair[0] === name);
  }
  get(name) {
    const pair = this.list.find((pair) => pair[0] === name);
    return pair === undefined ? undefined : text(pair[1]);
  }
  getBytes(name) {
    const pair = this.list.find((pair) => pair[0] === name);
    return pair === undefined ? undefined : bytes(pair[1]);
  }
  set(name, value) {
    this.delete(name);
    return this.append(name, value);
  }
  append(name, value) {
    if (value === undefined) throw new TypeError(`header ${name} has no value; null is allowed`);
    this.list.push([String(name), bytes(value)]);
    this.changed = true;
    return this;
  }
  delete(name) {
    const kept = this.list.filter((pair) => pair[0] !== name);
    const found = kept.length !== this.list.length;
    if (found) {
      this.list = kept;
      this.changed = true;
    }
    return found;
  }
  names() {
    return this.list.map((pair) => pair[0]);
  }
  *[Symbol.iterator]() {
    for (const [name, value] of this.list) yield [name, text(value)];
  }
  toJSON() {
    return [...this];
  }
}
