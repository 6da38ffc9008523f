/** @file `defineKernel`: says where the kernels of an op of the user's own are. */
import type { KernelUse } from "../codegen/added.ts";
import type { Attrs } from "../ir/graph.ts";
import type { OpDefinition, Widened } from "../ir/op.ts";

export interface KernelOptions<A = Attrs> {
  /** A C++ file, relative to the file that calls defineKernel. */
  readonly cpu?: string;
  /** A CUDA file. */
  readonly cuda?: string;
  /** Scratch memory that one use needs, in bytes: the kernel then takes a `void* workspace`. */
  readonly workspaceBytes?: (use: KernelUse<A>) => number;
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
  return new DefinedKernel(op.record as unknown as OpDefinition, options as KernelOptions);
}
