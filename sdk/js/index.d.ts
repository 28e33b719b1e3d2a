/** What a key, a value or a header may be made of. Objects are written as JSON. */
export type Data = string | Uint8Array | ArrayBuffer | Bytes | JsonData | null;

type JsonData = number | boolean | { [name: string]: unknown } | unknown[];

/**
 * The bytes of a key or value, in place: nothing is copied before a method asks for it. Good until the transform returns; keep
 * text(), json() or bytes() instead.
 */
export interface Bytes {
  readonly length: number;
  /** Whether the bytes hold that text (as UTF-8) or those bytes. Much cheaper than text(): filter with it first. */
  includes(needle: string | Uint8Array | Bytes, from?: number): boolean;
  /** Where they hold it, in bytes; -1 = nowhere. */
  indexOf(needle: string | Uint8Array | Bytes, from?: number): number;
  startsWith(needle: string | Uint8Array | Bytes): boolean;
  endsWith(needle: string | Uint8Array | Bytes): boolean;
  equals(other: string | Uint8Array | Bytes | null): boolean;
  /** One byte; negative counts from the end; undefined beyond it. */
  at(index: number): number | undefined;
  /** Decoded as UTF-8. */
  text(): string;
  /** Parsed as JSON; throws SyntaxError. */
  json<T = any>(): T;
  /** A copy. */
  bytes(): Uint8Array;
  toString(): string;
}

/** A record's headers. Names may repeat; their order is kept. Changing them changes the record. */
export interface Headers extends Iterable<[name: string, value: string | null]> {
  readonly size: number;
  has(name: string): boolean;
  /** The first of that name as text; undefined = none, null = null. */
  get(name: string): string | null | undefined;
  getBytes(name: string): Uint8Array | null | undefined;
  /** Replaces all of that name. */
  set(name: string, value: string | Uint8Array | JsonData | null): this;
  append(name: string, value: string | Uint8Array | JsonData | null): this;
  /** Whether there was one. */
  delete(name: string): boolean;
  names(): string[];
}

/** The source record. Good until the transform returns. */
export interface Record {
  /** The input's name. */
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  /** Milliseconds since 1970; -1 = none. Date.now() is the same. */
  readonly timestamp: number;
  get key(): Bytes | null;
  set key(key: Data);
  get value(): Bytes | null;
  set value(value: Data);
  readonly headers: Headers;
  /** The value as text; null if it is null. */
  text(): string | null;
  /** The value parsed as JSON; null if it is null. Changing what it returns does not change the record: return { value }. */
  json<T = any>(): T | null;
}

/** A record to write. What is left out is the source record's; null is null. The timestamp is always the source record's. */
export interface Result {
  key?: Data;
  value?: Data;
  headers?: Headers | Iterable<[string, string | Uint8Array | null]> | { [name: string]: string | Uint8Array | null } | null;
  /** Name of a declared output; the first if left out. */
  output?: string | number;
  /** The output's partition; transform.yaml's partitioning decides if left out. */
  partition?: number;
}

type One = Record | Result | boolean | null | undefined | void;

export interface Log {
  debug(...values: unknown[]): void;
  info(...values: unknown[]): void;
  warn(...values: unknown[]): void;
  error(...values: unknown[]): void;
}

export interface Context {
  readonly log: Log;
  readonly env: { readonly [name: string]: string | undefined };
  /** The script's name. */
  readonly script: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

/**
 * A transform is called once for each record, in order. It returns nothing (or null, false) to drop the record; the record, or true,
 * to pass it on, with the changes made to it; a Result; or an array of these. It must be a function of its record and env: batches
 * may be cut anywhere and meet several instances. Throwing fails the record: transform.yaml's on_error says what follows.
 */
export type Transform = (record: Record, context: Context) => One | One[];

/** Makes fn the transform, and returns it. */
export function transform(fn: Transform): Transform;

export const log: Log;

export const env: { readonly [name: string]: string | undefined };
