import type { Bytes, Headers, Log, Transform } from "./index.js";

export interface TestRecord {
  topic?: string;
  partition?: number;
  offset?: number;
  timestamp?: number;
  key?: string | Uint8Array | object | null;
  /** Objects become JSON. */
  value?: string | Uint8Array | object | null;
  headers?: { [name: string]: string | Uint8Array | null } | [string, string | Uint8Array | null][];
}

export interface Options {
  env?: { [name: string]: string };
  script?: string;
  inputs?: string[];
  outputs?: string[];
  /** Of the random numbers. */
  seed?: number | bigint;
  log?: Log;
}

/** One record that the transform wrote. */
export interface Written {
  /** Index of the record it was made from. */
  source: number;
  output: string;
  /** -1 = not chosen. */
  partition: number;
  /** The source record, unchanged. */
  passed: boolean;
  key: Bytes | null;
  value: Bytes | null;
  headers: Headers;
}

/** Runs fn on each record, as the engine does, and returns what it wrote, in order. Throws TransformError. */
export function run(fn: Transform, records: TestRecord[], options?: Options): Written[];

export class TransformError extends Error {
  readonly index: number;
}

export function randomOf(seed: number | bigint, offset: number | bigint): () => number;
