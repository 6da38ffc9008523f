/** @file Files with ops that a configuration names. */
import { resolve } from "node:path";
import { UserError } from "../ir/error.ts";
import type { OpDefinition } from "../ir/op.ts";
import type { DefinedKernel } from "./define-kernel.ts";
import { loadModule } from "./module.ts";
import { kernelsAmong, opsAmong } from "./register.ts";

/** A file with ops of the user's own, and these by the names under which it exports them. */
export interface OpFile {
  /** Absolute. */
  readonly path: string;
  readonly ops: ReadonlyMap<string, OpDefinition>;
}

/** Loads a file with ops, known from then on. Throws a UserError where it exports none, or one that can't be used. */
export function loadOps(file: string, askedBy?: string): OpFile {
  const ops = opsAmong(loadModule(file, askedBy));
  if (ops.size > 0) return { path: resolve(file), ops };
  throw new UserError("exports no op", {
    location: file,
    remedy:
      'An op is exported as: export const my_op = defineOp({ name: "my_op", ... }), imported from "ithaca".',
  });
}

/** The kernels that a file exports, their ops known from then on. Throws a UserError where there are none. */
export function loadKernels(file: string): readonly DefinedKernel[] {
  const kernels = kernelsAmong(loadModule(file));
  if (kernels.length > 0) return kernels;
  throw new UserError("exports no kernel", {
    location: file,
    remedy: 'A kernel is exported as: export const kernel = defineKernel(my_op, { cpu: "my_op.cc" })',
  });
}
