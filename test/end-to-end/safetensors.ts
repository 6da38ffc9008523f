/** @file Reads F32 tensors of a safetensors file: an independent reader for tests. */
import { readFileSync } from "node:fs";

interface Entry {
  readonly dtype: string;
  readonly data_offsets: readonly [number, number];
}

export function readSafetensors(path: string): Map<string, Float32Array> {
  const file = readFileSync(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString()) as Record<string, Entry>;
  const tensors = new Map<string, Float32Array>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    if (entry.dtype !== "F32") throw new Error(`${name} is ${entry.dtype}`);
    const [begin, end] = entry.data_offsets.map((offset) => offset + 8 + headerBytes);
    tensors.set(name, new Float32Array(file.buffer.slice(file.byteOffset + begin, file.byteOffset + end)));
  }
  return tensors;
}
