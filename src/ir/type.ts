/** @file Tensor types: element type, memory, global sizes, and the layout over the mesh. */
import { UserError } from "./error.ts";

export type DType = "f32" | "bf16" | "i32";

/** The levels of a rank's memory: what kernels work on, the machine's own beside it, and a file on its disk. */
export const memories = ["device", "host", "file"] as const;
export type Memory = (typeof memories)[number];

/** Mesh axes and their degrees, in order; the last axis varies fastest with the rank number. */
export type Mesh = ReadonlyMap<string, number>;

/** One dimension: its global size and the mesh axes it is split over, the major one first. */
export interface Dim {
  readonly size: number;
  readonly axes: readonly string[];
}

/**
 * The type of a value. Sizes are global at every stage; the size on a rank is derived (`localSizes`).
 * `partial` names the axes over which the value is still to be summed. `times` is null for a tensor;
 * a number makes it a family of that many tensors (one per layer or micro batch), which only `repeat` takes.
 */
export interface TensorType {
  readonly dtype: DType;
  readonly memory: Memory;
  readonly dims: readonly Dim[];
  readonly partial: readonly string[];
  readonly times: number | null;
}

export const DTYPE_BYTES: Readonly<Record<DType, number>> = { f32: 4, bf16: 2, i32: 4 };

/** An attribute's text as an element type. Throws a UserError for any other text. */
export function dtypeOf(text: string): DType {
  if (Object.hasOwn(DTYPE_BYTES, text)) return text as DType;
  throw new UserError(`"${text}" is not an element type`, { remedy: "Element types are f32, bf16 and i32." });
}

/** An unsplit tensor in device memory. */
export function tensor(dtype: DType, sizes: readonly number[]): TensorType {
  return {
    dtype,
    memory: "device",
    dims: sizes.map((size) => ({ size, axes: [] })),
    partial: [],
    times: null,
  };
}

export function sizesOf(type: TensorType): number[] {
  return type.dims.map((dim) => dim.size);
}

/** Number of elements of the whole tensor (of one member, for a family). */
export function elements(type: TensorType): number {
  return type.dims.reduce((product, dim) => product * dim.size, 1);
}

/** Number of ranks that share `dim`. */
export function degreeOf(dim: Dim, mesh: Mesh): number {
  return dim.axes.reduce((product, axis) => product * (mesh.get(axis) ?? 1), 1);
}

/** Sizes of one rank's share. Every split is even; an uneven one does not verify. */
export function localSizes(type: TensorType, mesh: Mesh): number[] {
  return type.dims.map((dim) => dim.size / degreeOf(dim, mesh));
}

/** Bytes of one rank's share, all members of a family together. */
export function localBytes(type: TensorType, mesh: Mesh): number {
  const count = localSizes(type, mesh).reduce((product, size) => product * size, 1);
  return count * DTYPE_BYTES[type.dtype] * (type.times ?? 1);
}

export function isFloat(type: TensorType): boolean {
  return type.dtype !== "i32";
}

/** Whether the two print the same, which is all there is to a type. */
export function sameType(a: TensorType, b: TensorType): boolean {
  return a === b || printType(a) === printType(b);
}

/** One member of a family; a tensor as it is. */
export function memberOf(type: TensorType): TensorType {
  return type.times === null ? type : { ...type, times: null };
}

/** `bf16<host>[2@dp, 131072@sp, 4096]{sum@tp}`; a family of 32 has `32 x ` in front. What is default is not printed. */
export function printType(type: TensorType): string {
  const dims = type.dims.map((dim) => [dim.size, ...dim.axes].join("@")).join(", ");
  const family = type.times === null ? "" : `${type.times} x `;
  const memory = type.memory === "device" ? "" : `<${type.memory}>`;
  const partial = type.partial.length === 0 ? "" : `{sum${type.partial.map((axis) => `@${axis}`).join("")}}`;
  return `${family}${type.dtype}${memory}[${dims}]${partial}`;
}

const TYPE = /^(?:(\d+) x )?(f32|bf16|i32)(?:<(host|device|file)>)?\[([^\]]*)\](?:\{sum((?:@[\w.-]+)+)\})?$/;
const DIM = /^(\d+)((?:@[\w.-]+)*)$/;

/** Inverse of `printType`. Throws a UserError that says what part it could not read. */
export function parseType(text: string): TensorType {
  const match = TYPE.exec(text.trim());
  if (!match) {
    throw new UserError(`"${text.trim()}" is not a type`, {
      remedy: "A type looks like bf16[2@dp, 4096@sp, 512] or i32[].",
    });
  }
  const [, times, dtype, memory, dims, partial] = match;
  const sizes = dims.trim() === "" ? [] : dims.split(",").map((part) => part.trim());
  return {
    dtype: dtype as DType,
    memory: (memory as Memory | undefined) ?? "device",
    dims: sizes.map((part) => {
      const dim = DIM.exec(part);
      if (!dim)
        throw new UserError(`"${part}" is not a dimension`, {
          remedy: "A dimension is a size and its axes: 4096@sp.",
        });
      return { size: Number(dim[1]), axes: dim[2].split("@").slice(1) };
    }),
    partial: partial === undefined ? [] : partial.split("@").slice(1),
    times: times === undefined ? null : Number(times),
  };
}
