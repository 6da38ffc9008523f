/** @file The vocabulary of the IR on one page. */
import { UserError } from "../error.ts";
import type { OpDefinition } from "../op.ts";
import { attention, attention_grad } from "./attention.ts";
import { cast } from "./cast.ts";
import { all_gather, all_reduce, all_to_all, reduce_scatter } from "./collective.ts";
import {
  add,
  div,
  exp,
  gelu,
  gelu_grad,
  log,
  maximum,
  minimum,
  mul,
  neg,
  relu,
  relu_grad,
  scale,
  sigmoid,
  silu,
  silu_grad,
  sqrt,
  sub,
  swiglu,
  swiglu_grad_gate,
  swiglu_grad_up,
  tanh,
} from "./elementwise.ts";
import { embedding, embedding_grad, matmul, matmul_add } from "./linear.ts";
import { cross_entropy, cross_entropy_grad } from "./loss.ts";
import { fetch, offload, reload, spill } from "./memory.ts";
import { rms_norm, rms_norm_grad } from "./norm.ts";
import { adamw } from "./optimizer.ts";
import { rope, rope_table } from "./position.ts";
import { broadcast, sum, sum_squares } from "./reduce.ts";
import { checkpoint, fused, repeat, tile } from "./region.ts";
import {
  concat,
  constant,
  merge_heads,
  pad,
  repeat_interleave,
  slice,
  split_heads,
  sum_groups,
  transpose,
} from "./shape.ts";

/** Every op, by family. The keys are the names in the text, in the kernel tables and in C++. */
export const ops = {
  // arithmetic and activations
  add,
  sub,
  mul,
  div,
  minimum,
  maximum,
  neg,
  exp,
  log,
  sqrt,
  tanh,
  sigmoid,
  scale,
  cast,
  relu,
  relu_grad,
  silu,
  silu_grad,
  gelu,
  gelu_grad,
  swiglu,
  swiglu_grad_gate,
  swiglu_grad_up,
  // linear algebra and tables
  matmul,
  matmul_add,
  embedding,
  embedding_grad,
  // reductions
  sum,
  broadcast,
  sum_squares,
  // shapes
  constant,
  split_heads,
  merge_heads,
  transpose,
  slice,
  pad,
  concat,
  repeat_interleave,
  sum_groups,
  // what a decoder is made of
  rms_norm,
  rms_norm_grad,
  rope_table,
  rope,
  attention,
  attention_grad,
  cross_entropy,
  cross_entropy_grad,
  adamw,
  // layout and memory
  all_to_all,
  all_gather,
  reduce_scatter,
  all_reduce,
  offload,
  reload,
  spill,
  fetch,
  // bodies
  repeat,
  tile,
  checkpoint,
  fused,
} as const;

export type OpName = keyof typeof ops;
export const opNames = Object.keys(ops) as OpName[];

/** Ops that are not ours, each with the file that it comes from. */
const added = new Map<string, { readonly record: OpDefinition; readonly file: string }>();

/**
 * Adds the ops of a file to the vocabulary, in place of what the same file added before. Throws a UserError for a name
 * that is taken.
 */
export function addOps(records: readonly OpDefinition[], file: string): void {
  for (const { name } of records) {
    const other = added.get(name);
    if (isOpName(name) || (other && other.file !== file)) {
      throw new UserError(`there is an op "${name}" already`, {
        location: file,
        remedy: `${other ? `It is in ${other.file}` : "It is one of Ithaca's"}; choose another name.`,
      });
    }
  }
  for (const [name, own] of added) if (own.file === file) added.delete(name);
  for (const record of records) added.set(record.name, { record, file });
}

/** The file that an op comes from; undefined for one of ours. */
export function fileOfOp(name: string): string | undefined {
  return added.get(name)?.file;
}

/** The record of any op, its types erased. Throws for a name that is no op. */
export function recordOf(name: string): OpDefinition {
  const op = isOpName(name) ? (ops[name] as { record: unknown }) : added.get(name);
  if (!op) throw new Error(`there is no op "${name}"`);
  return op.record as OpDefinition;
}

/** Whether the name is one of ours, for which there are tables. */
export function isOpName(name: string): name is OpName {
  return Object.hasOwn(ops, name);
}

/** Whether the name is that of an op, ours or added. */
export function isKnownOp(name: string): boolean {
  return isOpName(name) || added.has(name);
}
