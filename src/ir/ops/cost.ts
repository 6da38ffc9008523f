/** @file Bytes that an op moves when it reads each operand and writes each result once. */
import { DTYPE_BYTES, elements, type TensorType } from "../type.ts";

export function bytesOf(...groups: readonly (readonly TensorType[])[]): number {
  return groups.flat().reduce((total, type) => total + elements(type) * DTYPE_BYTES[type.dtype], 0);
}
