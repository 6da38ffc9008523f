/**
 * @file How long a step takes by a roofline (Williams et al. 2009): each kernel at the rate of the machine's products or of its
 * memory, whichever is the slower, and lanes that wait for each other as the plan says.
 *
 * Counted are products and attention by their FLOPs, everything else by the bytes it moves, collectives and copies by
 * the bytes that cross a link. Steps of a loop run all their turns in one piece, so what overlaps from turn to turn is
 * not seen.
 */
import { recordOf } from "../ir/ops/index.ts";
import { type Lane, lanes, type Plan, type Step } from "../ir/plan.ts";
import { localBytes, localSizes, type Mesh, type TensorType } from "../ir/type.ts";
import type { Machine } from "./machines.ts";

/** Seconds between the launches of two kernels: what a short one costs at least. */
const LAUNCH_SECONDS = 4e-6;

/** When a step runs, all turns of its loops together, in seconds from the beginning. */
export interface Span {
  readonly begin: number;
  readonly end: number;
}

export interface Timeline {
  /** One for each step of the plan. */
  readonly spans: readonly Span[];
  readonly seconds: number;
  /** Seconds in which each lane has work. */
  readonly busy: Readonly<Record<Lane, number>>;
}

/** The tensor that one rank holds, as if it were the whole. */
function shareOf(type: TensorType, mesh: Mesh): TensorType {
  const sizes = localSizes(type, mesh);
  return { ...type, partial: [], dims: sizes.map((size) => ({ size, axes: [] })) };
}

/** Ranks that `mesh` needs. */
export function ranksOf(mesh: Mesh): number {
  return [...mesh.values()].reduce((product, degree) => product * degree, 1);
}

/** Seconds of one turn of a step. */
export function secondsOf(step: Step, mesh: Mesh, machine: Machine): number {
  const { node } = step;
  const { sends, cost } = recordOf(node.op);
  if (sends) {
    const [given, made] = [node.operands, node.results].map((values) => values.map(({ type }) => type));
    const link = ranksOf(mesh) > machine.gpusPerNode ? machine.network : machine.nodeLink;
    return LAUNCH_SECONDS + sends(given, node.attrs, { results: made, mesh }) / link;
  }
  const operands = node.operands.map(({ type }) => shareOf(type, mesh));
  const results = node.results.map(({ type }) => shareOf(type, mesh));
  if (node.op === "offload" || node.op === "reload")
    return LAUNCH_SECONDS + bytesOf(operands) / machine.hostLink;
  if (node.op === "spill" || node.op === "fetch") return bytesOf(operands) / machine.fileLink;
  const isFused = node.op === "fused";
  const { flops, bytes } = isFused
    ? { flops: 0, bytes: bytesOf(operands) + bytesOf(results) }
    : cost(operands, node.attrs, results);
  const { efficiency, peakFlops, deviceBandwidth } = machine;
  const reach =
    node.op === "attention"
      ? efficiency.attention
      : node.op === "attention_grad"
        ? efficiency.attentionGrad
        : efficiency.matmul;
  const isProduct = reach !== efficiency.matmul || node.op === "matmul" || node.op === "matmul_add";
  const peak = operands[0]?.dtype === "bf16" ? peakFlops.bf16 : peakFlops.f32;
  const computing = isProduct ? flops / (peak * reach) : 0;
  // A kernel that reads or writes host memory does so over the bus.
  const remote = bytesOf([...operands, ...results].filter(({ memory }) => memory === "host"));
  const moving = Math.max(bytes / (deviceBandwidth * efficiency.memory), remote / machine.hostLink);
  return LAUNCH_SECONDS + Math.max(computing, moving);
}

function bytesOf(types: readonly TensorType[]): number {
  return types.reduce((total, type) => total + localBytes(type, new Map()), 0);
}

/** Turns of a step in one run of the plan. */
export function turnsOf({ loops }: Step, plan: Plan): number {
  return loops.reduce((product, loop) => product * plan.loops[loop].times, 1);
}

/** `partOf`: the part of a step's work that a rank has, where the plan is for more. */
export function timelineOf(plan: Plan, machine: Machine, partOf: (step: Step) => number = () => 1): Timeline {
  const free = Object.fromEntries(lanes.map((lane) => [lane, 0])) as Record<Lane, number>;
  const busy = { ...free };
  const spans: Span[] = [];
  for (const step of plan.steps) {
    const seconds = secondsOf(step, plan.mesh, machine) * turnsOf(step, plan) * partOf(step);
    const awaited = step.waits.filter((before) => before < step.index).map((before) => spans[before].end);
    const begin = Math.max(free[step.lane], ...awaited);
    spans.push({ begin, end: begin + seconds });
    free[step.lane] = begin + seconds;
    busy[step.lane] += seconds;
  }
  return { spans, busy, seconds: Math.max(...Object.values(free)) };
}
