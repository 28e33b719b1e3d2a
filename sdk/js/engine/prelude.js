// What a script sees besides Record and Bytes. `host` is the engine's; headers.js stands before this text. The result is for engine.c.

class TextEncoderClass {
  get encoding() {
    return "utf-8";
  }
  encode(text = "") {
    return host.encode(String(text));
  }
}

class TextDecoderClass {
  constructor(label = "utf-8") {
    if (!/^utf-?8$/i.test(label)) throw new RangeError(`TextDecoder knows utf-8 only, not ${label}`);
  }
  get encoding() {
    return "utf-8";
  }
  decode(bytes, options) {
    if (options?.stream) throw new TypeError("TextDecoder does not stream here: a record comes whole");
    return bytes === undefined ? "" : host.decode(bytes);
  }
}

function show(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return `${value}\n${value.stack ?? ""}`.trimEnd();
  if (typeof value === "object" && value !== null) {
    try {
      return JSON.stringify(value) ?? String(value);
    } catch {
      return String(value);
    }
  }
  return typeof value === "bigint" ? `${value}n` : String(value);
}

const logger = (level) => (...values) => host.log(level, values.map(show).join(" "));
const [debug, info, warn, error] = [0, 1, 2, 3].map(logger);

let environment;
const env = () => (environment ??= Object.freeze(host.env()));
const lists = {};

const context = Object.freeze({
  log: Object.freeze({ debug, info, warn, error }),
  get env() {
    return env();
  },
  get script() {
    return env().MILLRACE_SCRIPT ?? "";
  },
  get inputs() {
    return (lists.inputs ??= Object.freeze(host.inputs()));
  },
  get outputs() {
    return (lists.outputs ??= Object.freeze(host.outputs()));
  },
});

const define = (name, value) =>
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });

define("TextEncoder", TextEncoderClass);
define("TextDecoder", TextDecoderClass);
define("console", { debug, log: info, info, warn, error, trace: debug });
define("process", {
  get env() {
    return env();
  },
});
Object.defineProperty(globalThis, "__millrace", { value: Object.freeze({ context, transform: host.register }) });

return { context, headersOf: (pairs) => new Headers(pairs) };
