/** @file What a file with passes or ops of one's own may import from "ithaca": the IR and the words to write passes in. */
export type { KernelUse } from "../codegen/added.ts";
export { array, type NDArray } from "../ir/array.ts";
export { append, Builder, building, type NodeOptions } from "../ir/build.ts";
export type { Op } from "../ir/define-op.ts";
export { formatError, UserError } from "../ir/error.ts";
export {
  type Attrs,
  type AttrValue,
  allNodes,
  consumers,
  escaping,
  type Graph,
  type Node,
  type Output,
  type Param,
  producers,
  type Region,
  type Role,
  type Update,
  type Value,
} from "../ir/graph.ts";
export { type InterpretResult, interpret } from "../ir/interpret.ts";
export type { Cost, GradientContext, Gradients, OpDefinition } from "../ir/op.ts";
export { bytesOf } from "../ir/ops/cost.ts";
export { type OpName, opNames, ops, recordOf } from "../ir/ops/index.ts";
export { parse } from "../ir/parse.ts";
export { print, printNode } from "../ir/print.ts";
export { type Handlers, keep, type NodeOf, type Replacement, retype, rewrite } from "../ir/rewrite.ts";
export {
  type Dim,
  type DType,
  elements,
  isFloat,
  localBytes,
  localSizes,
  type Mesh,
  parseType,
  printType,
  sizesOf,
  type TensorType,
  tensor,
} from "../ir/type.ts";
export { type Complaint, type PropertyName, properties, verify } from "../ir/verify.ts";
export { definePass, type Numerics, type Pass, type PassOptions } from "../passes/pass.ts";
export { defineKernel, type KernelOptions, type OpSample } from "./define-kernel.ts";
export { type AddedOp, defineOp } from "./define-op.ts";
