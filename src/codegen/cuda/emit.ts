/** @file The CUDA target's C++: one host thread issues all steps, each on the stream of its lane. */
import type { Plan } from "../../ir/plan.ts";
import type { Source } from "../build.ts";
import { type Dialect, type EmitOptions, emit } from "../emit.ts";
import { kernels } from "./kernels.ts";

const dialect: Dialect = {
  target: "cuda",
  kernels,
  templates: new URL("./", import.meta.url),
  elementwise: "elementwise.cu",
  lanesApart: false,
  openDevice: "ithaca::cuda::open_gpu",
  call: (lane, kernel, operands) => `${kernel}(${[...operands, `gpu.${lane}`].join(", ")});`,
  comm: (_, axis) => `gpu.axis(${axis})`,
};

/** The sources of one program for a GPU. Equal plans give equal bytes. */
export function emitCuda(plan: Plan, options: EmitOptions): Source[] {
  return emit(plan, dialect, options);
}
