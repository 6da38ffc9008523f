/**
 * @file The Plan: what a graph becomes once it is scheduled. Steps on lanes, and buffers with byte offsets.
 *
 * A plan is one rank's program; all ranks have the same. Each level of memory is one arena, of `deviceBytes`, `hostBytes`
 * and `fileBytes`, allocated before the first step and never again.
 */
import type { Node, Role } from "./graph.ts";
import { recordOf } from "./ops/index.ts";
import { printAttrs } from "./print.ts";
import { type Memory, type Mesh, printType, type TensorType } from "./type.ts";
import { printBytes } from "./units.ts";

/** Every offset is a multiple of this many bytes. */
export const ALIGNMENT_BYTES = 256;

export const lanes = ["compute", "comm", "to_host", "to_device", "to_file", "from_file"] as const;
export type Lane = (typeof lanes)[number];

/** What a buffer is for: the rows of a memory report. */
export const bufferKinds = [
  "parameters",
  "gradients",
  "optimizer",
  "inputs",
  "activations",
  "workspace",
  "communication",
] as const;
export type BufferKind = (typeof bufferKinds)[number];

/** A piece of an arena, alive from step `first` to step `last`, both included. */
export interface Buffer {
  /** The value that it was made for. */
  readonly name: string;
  readonly kind: BufferKind;
  readonly memory: Memory;
  readonly bytes: number;
  /** Lives through all steps, and from one run of the plan to the next. */
  readonly persistent: boolean;
  readonly first: number;
  readonly last: number;
  /** From the beginning of its arena. */
  readonly offset: number;
}

/** A value as a step sees it: some bytes of a buffer, which may move on with each turn of the loops around the step. */
export interface Slot {
  readonly name: string;
  /** Type of what one turn sees. */
  readonly type: TensorType;
  /** Index into the plan's buffers. */
  readonly buffer: number;
  /** Bytes of the buffer in front of it. */
  readonly start: number;
  /** Bytes that the slot advances per turn of each enclosing loop, outermost first. */
  readonly strides: readonly number[];
}

export interface Step {
  readonly index: number;
  readonly lane: Lane;
  /** The op, with its attributes, types and line of the model. */
  readonly node: Node;
  readonly inputs: readonly Slot[];
  readonly outputs: readonly Slot[];
  readonly workspace: Slot | null;
  /** Steps on other lanes that must have ended before this one begins; a later one in the turn before (see order.ts). */
  readonly waits: readonly number[];
  /** Loops around the step, outermost first, as indices into the plan's loops. */
  readonly loops: readonly number[];
}

/** Steps `first` to `last` run `times` times, in order. */
export interface Loop {
  readonly times: number;
  readonly first: number;
  readonly last: number;
}

/** A tensor that the runtime finds by name. */
export interface PlanTensor {
  readonly name: string;
  readonly role: Role | "output";
  readonly type: TensorType;
  readonly init: string;
  readonly buffer: number;
}

export interface Plan {
  readonly name: string;
  readonly mesh: Mesh;
  readonly steps: readonly Step[];
  readonly loops: readonly Loop[];
  readonly buffers: readonly Buffer[];
  readonly tensors: readonly PlanTensor[];
  readonly deviceBytes: number;
  readonly hostBytes: number;
  /** Of the rank's file; 0 where there is none. */
  readonly fileBytes: number;
  /** The largest sum of bytes alive at one step: no plan of these steps can need less device memory. */
  readonly deviceLowerBound: number;
}

/** The size of the arena of `memory`. */
export function arenaBytes(
  plan: Pick<Plan, "deviceBytes" | "hostBytes" | "fileBytes">,
  memory: Memory,
): number {
  return { device: plan.deviceBytes, host: plan.hostBytes, file: plan.fileBytes }[memory];
}

/** `bytes` rounded up to the alignment of buffers. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
}

/** Bytes alive at the step where most are, by kind. */
export function peakByKind(plan: Plan, memory: Memory = "device"): Record<BufferKind, number> {
  const { step } = peak(plan, memory);
  const totals = Object.fromEntries(bufferKinds.map((kind) => [kind, 0])) as Record<BufferKind, number>;
  for (const buffer of plan.buffers) {
    if (buffer.memory === memory && isAlive(buffer, step)) totals[buffer.kind] += buffer.bytes;
  }
  return totals;
}

export function isAlive(buffer: Buffer, step: number): boolean {
  return buffer.persistent || (buffer.first <= step && step <= buffer.last);
}

type Lifetime = Pick<Buffer, "memory" | "bytes" | "persistent" | "first" | "last">;

/** The step at which most bytes are alive, and how many. */
export function peak(
  plan: { readonly buffers: readonly Lifetime[]; readonly steps: { readonly length: number } },
  memory: Memory = "device",
): { step: number; bytes: number } {
  const change = new Array<number>(plan.steps.length + 1).fill(0);
  let always = 0;
  for (const buffer of plan.buffers) {
    if (buffer.memory !== memory) continue;
    if (buffer.persistent) always += aligned(buffer.bytes);
    else {
      change[buffer.first] += aligned(buffer.bytes);
      change[buffer.last + 1] -= aligned(buffer.bytes);
    }
  }
  let best = { step: 0, bytes: always };
  let alive = always;
  for (let step = 0; step < plan.steps.length; step++) {
    alive += change[step];
    if (alive > best.bytes) best = { step, bytes: alive };
  }
  return best;
}

/** Bytes that each rank sends to others in one optimizer step, by the name of the collective; loops are counted. */
export function bytesSent(plan: Pick<Plan, "steps" | "loops" | "mesh">): Map<string, number> {
  const totals = new Map<string, number>();
  for (const { node, loops } of plan.steps) {
    const { sends } = recordOf(node.op);
    if (!sends) continue;
    const [types, results] = [node.operands, node.results].map((values) => values.map(({ type }) => type));
    const times = loops.reduce((turns, loop) => turns * plan.loops[loop].times, 1);
    const bytes = times * sends(types, node.attrs, { results, mesh: plan.mesh });
    totals.set(node.op, (totals.get(node.op) ?? 0) + bytes);
  }
  return totals;
}

/** The same, all kinds together: `bytes_sent` in metrics.jsonl. */
export function totalBytesSent(plan: Pick<Plan, "steps" | "loops" | "mesh">): number {
  return [...bytesSent(plan).values()].reduce((total, bytes) => total + bytes, 0);
}

/** One step as a line: number, lane, op, where its operands and results lie. */
export function printStep(plan: Plan, step: Step): string {
  const at = (slot: Slot): string => {
    const stride = slot.strides.some((bytes) => bytes > 0) ? `+${slot.strides.join("+")}` : "";
    return `%${slot.name}@${plan.buffers[slot.buffer].offset + slot.start}${stride}`;
  };
  const loops = step.loops.map((loop) => `x${plan.loops[loop].times} `).join("");
  const results = step.outputs.map(at).join(", ");
  const operands = step.inputs.map(at).join(", ");
  const awaited = step.waits.map((before) =>
    before < step.index ? `${before}` : `${before} of the turn before`,
  );
  const waits = awaited.length > 0 ? `  waits ${awaited.join(", ")}` : "";
  const head = `${String(step.index).padStart(6)} ${step.lane.padEnd(9)} ${loops}${results} = ${step.node.op} ${operands}${printAttrs(step.node.op, step.node.attrs)}`;
  const types = step.outputs.map(({ type }) => printType(type)).join(", ");
  return `${head.padEnd(110)} : ${types}${waits}${step.node.loc === "" ? "" : `  ; ${step.node.loc}`}`;
}

/** The plan as text: totals, where the peak is, what is sent, then every step. */
export function printPlan(plan: Plan): string {
  const { step, bytes } = peak(plan);
  const kinds = Object.entries(peakByKind(plan)).filter(([, size]) => size > 0);
  const sent = [...bytesSent(plan)];
  const total = totalBytesSent(plan);
  return `${[
    `plan ${plan.name}`,
    `  device  ${printBytes(plan.deviceBytes).padStart(10)}  (${plan.deviceBytes} bytes; at least ${plan.deviceLowerBound} are needed)`,
    `  host    ${printBytes(plan.hostBytes).padStart(10)}`,
    ...(plan.fileBytes > 0 ? [`  file    ${printBytes(plan.fileBytes).padStart(10)}`] : []),
    `  peak at step ${step}: ${printBytes(bytes)}`,
    ...kinds.map(([kind, size]) => `    ${kind.padEnd(14)} ${printBytes(size).padStart(10)}`),
    ...(sent.length > 0 ? [`  sent by each rank in a step: ${printBytes(total)}  (${total} bytes)`] : []),
    ...sent.map(([kind, size]) => `    ${kind.padEnd(14)} ${printBytes(size).padStart(10)}`),
    "",
    ...plan.steps.map((own) => printStep(plan, own)),
  ].join("\n")}\n`;
}
