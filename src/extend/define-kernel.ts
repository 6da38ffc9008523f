/** @file `defineKernel`: says where the kernels of an op of the user's own are. */
import type { KernelUse } from "../codegen/added.ts";
import type { Attrs } from "../ir/graph.ts";
import type { OpDefinition, Widened } from "../ir/op.ts";

/** A use of an op on which `ithaca check-op` holds record and kernels together. */
export interface OpSample<A = Attrs> {
  /** Types of the operands, such as "f[2, 6, 8]": `f` is f32 and bf16 in turn. Two ranks can share even sizes. */
  readonly types: readonly string[];
  readonly attrs?: Partial<A>;
}

export interface KernelOptions<A = Attrs> {
  /** A C++ file, relative to the file that calls defineKernel. */
  readonly cpu?: string;
  /** A CUDA file. */
  readonly cuda?: string;
  /** Scratch memory that one use needs, in bytes: the kernel then takes a `void* workspace`. */
  readonly workspaceBytes?: (use: KernelUse<A>) => number;
  readonly samples?: readonly OpSample<A>[];
}

/** The kernels of one op, their paths as they were written. */
export class DefinedKernel {
  readonly record: OpDefinition;
  readonly options: KernelOptions;

  constructor(record: OpDefinition, options: KernelOptions) {
    this.record = record;
    this.options = options;
  }
}

/** The kernels of `op`, one for each target that is to run it. What a kernel looks like is in ithaca/kernel.h. */
export function defineKernel<A extends Attrs>(
  op: { readonly record: OpDefinition<readonly string[], A, readonly string[]> },
  options: KernelOptions<Widened<A>>,
): DefinedKernel {
  return new DefinedKernel(op.record as unknown as OpDefinition, options as unknown as KernelOptions);
}
