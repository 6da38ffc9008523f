/** @file The CPU's C++: a thread for each lane, kernels called in place. */
import type { Plan } from "../../ir/plan.ts";
import type { Source } from "../build.ts";
import { type Dialect, type EmitOptions, emit } from "../emit.ts";
import { kernels } from "./kernels.ts";

/** Functions of runtime/kernels/cpu/guard.h. */
const GUARDS = { take: "take_bytes", open: "open_bytes", giveBack: "give_back_bytes" } as const;

const dialect: Dialect = {
  target: "cpu",
  kernels,
  templates: new URL("./", import.meta.url),
  elementwise: "elementwise.cc",
  lanesApart: true,
  openDevice: "nullptr",
  call: (_, kernel, operands) => `${kernel}(${operands.join(", ")});`,
  guard: (guard, memory, offset, bytes) =>
    `${GUARDS[guard]}(${memory === "device" ? "d" : "h"}.base + ${offset}, ${bytes});`,
  comm: (_, axis) => `*rank.comms[${axis}]`,
};

/** The sources of one program for the CPU. Equal plans give equal bytes. */
export function emitCpu(plan: Plan, options: EmitOptions): Source[] {
  return emit(plan, dialect, options);
}
