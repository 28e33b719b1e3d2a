// @millrace/sdk: a script may also do without it, everything is an argument of its function. In Node, where tests run, there is no
// host: logs go to the console and the environment is the process's.

const host = globalThis.__millrace;

/** Makes fn the transform, and returns it: `export default transform((record) => ...)` gives an editor its types. */
export function transform(fn) {
  host?.transform(fn);
  return fn;
}

/** The script's log: `millrace wasm logs NAME`. console does the same. */
export const log = host
  ? host.context.log
  : { debug: console.debug, info: console.info, warn: console.warn, error: console.error };

const variables = () => (host ? host.context.env : globalThis.process.env);

/** The variables of transform.yaml's env. They are read when they are asked for: not before the first record. */
export const env = new Proxy(
  {},
  {
    get: (_, name) => variables()[name],
    has: (_, name) => name in variables(),
    ownKeys: () => Reflect.ownKeys(variables()),
    getOwnPropertyDescriptor: (_, name) =>
      name in variables() ? { value: variables()[name], enumerable: true, configurable: true } : undefined,
    set: () => false,
  },
);
