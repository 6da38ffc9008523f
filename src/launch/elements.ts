/** @file Elements of a program's tensors as plain numbers, and back. */
import type { DType } from "../ir/type.ts";
import type { TensorView } from "./program.ts";

const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0];

/** Rounds to bf16, to nearest even. */
export function toBf16(value: number): number {
  if (!Number.isFinite(value)) return value;
  const bits = bitsOf(value);
  const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000;
  return new Float32Array(Uint32Array.of(rounded).buffer)[0];
}

/** The number as an element of that type holds it. */
export function rounded(value: number, dtype: DType): number {
  if (dtype === "i32") return Math.trunc(value);
  return dtype === "f32" ? Math.fround(value) : toBf16(value);
}

export function encode(data: Float64Array, dtype: DType): TensorView {
  if (dtype === "bf16") return Uint16Array.from(data, (value) => bitsOf(toBf16(value)) >>> 16);
  return dtype === "i32" ? Int32Array.from(data) : Float32Array.from(data);
}

export function decode(view: TensorView, dtype: DType): Float64Array {
  const numberOf = (bits: number): number => new Float32Array(Uint32Array.of(bits << 16).buffer)[0];
  return Float64Array.from(view, (value) => (dtype === "bf16" ? numberOf(value) : value));
}
