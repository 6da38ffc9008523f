/**
 * @file What a plan is made of, read off its steps: which step belongs to which layer, which buffer is touched when and
 * what for, and where forward ends and backward begins. Reports and formulas are written in these words.
 */
import { type Buffer, type BufferKind, bufferKinds, type Plan, type Step } from "../ir/plan.ts";

/**
 * The rows of a memory report. `checkpoints` are activations that forward made and backward reads, in any memory; casts of weights
 * are counted as parameters, the tokens of a step as activations.
 */
export const reportKinds = [
  "parameters",
  "gradients",
  "optimizer",
  "activations",
  "checkpoints",
  "workspace",
  "communication",
  "allowance",
] as const;
export type ReportKind = (typeof reportKinds)[number];

/** A stretch of steps on the weights of one layer. */
export interface Run {
  readonly layer: string;
  readonly first: number;
  readonly last: number;
}

/** A buffer with what its steps tell of it. */
export interface Part extends Omit<Buffer, "kind" | "offset"> {
  readonly kind: ReportKind;
  /** "layers.3", "lm_head" ...; "" for what belongs to none. */
  readonly layer: string;
  /** Line of the model of the first step on it that has one; "" where none has. */
  readonly loc: string;
  /** Steps that read or write it, in order. */
  readonly touches: readonly number[];
  /** The plan's buffer that it is, or is a piece of; -1 for one that a formula adds. */
  readonly origin: number;
  /** Made from a weight by a cast: it can be made again at any time. */
  readonly isCast: boolean;
}

export interface Anatomy {
  readonly plan: Plan;
  readonly parts: readonly Part[];
  /** One for each step. */
  readonly layers: readonly string[];
  /** Of forward and backward: the optimizer's steps are in none. */
  readonly runs: readonly Run[];
  /** Steps of the loss, between forward and backward; null in a plan without one. */
  readonly turn: { readonly first: number; readonly last: number } | null;
}

/** What makes a checkpoint's copies. */
const COPIES: ReadonlySet<string> = new Set(["offload", "reload", "spill", "fetch"]);

const kindOf: Readonly<Record<BufferKind, ReportKind>> = {
  ...(Object.fromEntries(bufferKinds.map((kind) => [kind, kind])) as Record<BufferKind, ReportKind>),
  inputs: "activations",
};

/** "model.layers.3.mlp.up_proj.weight" belongs to "layers.3", "lm_head.weight" to "lm_head". */
export function layerOf(parameter: string): string {
  const numbered = /(?:^|\.)([A-Za-z_]\w*\.\d+)(?:\.|$)/.exec(parameter);
  return numbered ? numbered[1] : parameter.split(".").slice(0, -1).join(".") || parameter;
}

export function anatomyOf(plan: Plan): Anatomy {
  const touches: number[][] = plan.buffers.map(() => []);
  for (const step of plan.steps) {
    for (const { buffer } of slotsOf(step)) {
      if (touches[buffer].at(-1) !== step.index) touches[buffer].push(step.index);
    }
  }
  const casts = castsOf(plan);
  const layers = layersOf(plan, casts);
  const turn = turnOf(plan);
  const owners = new Map(plan.tensors.map(({ buffer, name }) => [buffer, name]));
  const parts = plan.buffers.map((buffer, origin): Part => {
    const maker = plan.steps[touches[origin][0] ?? 0] as Step | undefined;
    const name = (owners.get(origin) ?? buffer.name).replace(/^adamw\.[mv]\./, "");
    const isOfWeight = buffer.kind === "parameters" || buffer.kind === "optimizer";
    const isCast = casts.has(origin);
    const isCopied = COPIES.has(maker?.node.op ?? "");
    const crosses = turn && !buffer.persistent && buffer.first < turn.first && buffer.last > turn.last;
    const kind = isCast
      ? "parameters"
      : (crosses || isCopied) && buffer.kind === "activations"
        ? "checkpoints"
        : kindOf[buffer.kind];
    const { memory, bytes, persistent, first, last } = buffer;
    return {
      name: buffer.name,
      memory,
      bytes,
      persistent,
      first,
      last,
      kind,
      isCast,
      origin,
      touches: touches[origin],
      layer: isOfWeight ? layerOf(name) : buffer.persistent ? "" : (layers[buffer.first] ?? ""),
      loc: locOf(plan, touches[origin]),
    };
  });
  return { plan, parts, layers, runs: runsOf(plan, layers), turn };
}

function locOf({ steps }: Plan, touches: readonly number[]): string {
  const step = touches.find((index) => steps[index].node.loc !== "");
  return step === undefined ? "" : steps[step].node.loc;
}

function slotsOf({ inputs, outputs, workspace }: Step) {
  return [...inputs, ...outputs, ...(workspace ? [workspace] : [])];
}

/** Buffers whose first step casts a weight, with that weight's buffer. */
function castsOf(plan: Plan): Map<number, number> {
  const seen = new Set<number>();
  const casts = new Map<number, number>();
  for (const { node, inputs, outputs } of plan.steps) {
    const [to] = outputs;
    const [from] = inputs;
    const isWeight = from && plan.buffers[from.buffer].kind === "parameters";
    if (node.op === "cast" && isWeight && !seen.has(to.buffer) && !plan.buffers[to.buffer].persistent)
      casts.set(to.buffer, from.buffer);
    for (const { buffer } of [...inputs, ...outputs]) seen.add(buffer);
  }
  return casts;
}

/** The layer of each step: that of the weight it reads, or of the step before it. */
function layersOf(plan: Plan, casts: ReadonlyMap<number, number>): string[] {
  const layerOfBuffer = plan.buffers.map(({ kind, name }, at) => {
    const weight = kind === "parameters" ? name : plan.buffers[casts.get(at) ?? -1]?.name;
    return weight === undefined ? null : layerOf(weight);
  });
  let current = "";
  return plan.steps.map(({ inputs }) => {
    const own = inputs.map(({ buffer }) => layerOfBuffer[buffer]).find((layer) => layer !== null);
    if (own !== undefined && own !== null) current = own;
    return current;
  });
}

function isOptimizer(step: Step): boolean {
  return step.node.op === "adamw";
}

function runsOf(plan: Plan, layers: readonly string[]): Run[] {
  const runs: Run[] = [];
  for (const step of plan.steps) {
    if (isOptimizer(step)) continue;
    const last = runs.at(-1);
    const layer = layers[step.index];
    if (last?.layer === layer && last.last === step.index - 1)
      runs[runs.length - 1] = { ...last, last: step.index };
    else runs.push({ layer, first: step.index, last: step.index });
  }
  return runs;
}

/** The steps of the loss, with all of the loop they are in where it is tiled. */
function turnOf(plan: Plan): Anatomy["turn"] {
  const loss = plan.steps.find(({ node }) => node.op === "cross_entropy");
  if (!loss) return null;
  const tiles = loss.loops.at(-1);
  const grad = plan.steps.find(({ node, index }) => node.op === "cross_entropy_grad" && index > loss.index);
  const isTiled = tiles !== undefined && grad?.loops.at(-1) === tiles;
  const loop = isTiled ? plan.loops[tiles] : null;
  return loop
    ? { first: loop.first, last: loop.last }
    : { first: loss.index, last: grad?.index ?? loss.index };
}
