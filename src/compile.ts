/** @file The whole road: a configuration in, a plan and the sources of a training program out. */
import { mkdirSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Source } from "./codegen/build.ts";
import { emitCpu } from "./codegen/cpu/emit.ts";
import { cpuTarget } from "./codegen/cpu/target.ts";
import { emitCuda } from "./codegen/cuda/emit.ts";
import { cudaTarget } from "./codegen/cuda/target.ts";
import type { Config } from "./config/load.ts";
import { hasDocuments } from "./data/has-documents.ts";
import { type Model, readModel } from "./frontend/huggingface.ts";
import { lowerDefinition } from "./frontend/index.ts";
import { UserError } from "./ir/error.ts";
import { modelFlops, parameterCount } from "./ir/flops.ts";
import type { Graph } from "./ir/graph.ts";
import { type Plan, printBytes, printPlan } from "./ir/plan.ts";
import { print } from "./ir/print.ts";
import { findRaces } from "./ir/race.ts";
import type { Mesh } from "./ir/type.ts";
import { offloadableBytes } from "./passes/offload.ts";
import { trainingPipeline } from "./passes/pipeline.ts";
import { planMemory } from "./passes/plan-memory.ts";
import { runPipeline, type Stage } from "./passes/run.ts";
import { schedule, type Target } from "./passes/schedule.ts";

export interface CompileOptions {
  /** Folder to which the graph after every pass and the plan are written. */
  readonly dump?: string;
  /** Stop behind this pass: there are no sources then. */
  readonly stopAfter?: string;
}

/** The graph after one pass; its text is made when it is asked for. */
export interface CompiledStage extends Stage {
  readonly text: string;
}

export interface Compiled {
  /** The definition, its configuration, and the files that belong to it. */
  readonly model: Model;
  readonly sources: readonly Source[];
  /** Null when the road was left early. */
  readonly plan: Plan | null;
  readonly stages: readonly CompiledStage[];
  /** The plan as text, made when it is asked for; "" where there is none. */
  readonly planText: string;
  /** Number of elements of all weights. */
  readonly parameters: number;
  /** Time of each part of the road, in seconds. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** What was tried to fit the limits, and what its plan needs. */
export interface Trial {
  readonly checkpointing: "off" | "attention" | "layer";
  /** Layers whose checkpoints wait in host memory; Infinity: all. */
  readonly offloadLayers: number;
  readonly deviceBytes: number;
  readonly hostBytes: number;
  /** What is wrong where the plan needs more memory than a rank may have; null where it fits. */
  readonly excess: string | null;
}

export interface PlanningOptions {
  /** Stop behind this pass: there is no plan then. */
  readonly stopAfter?: string;
  /** Whether the graph is verified after each pass and the plan for races. A program is made of none that is not. */
  readonly verify?: boolean;
  /** The machine as the planner sees it; that of the configuration unless given. */
  readonly target?: (mesh: Mesh) => Target;
  /** What is changed about a plan before it is held against the limits. */
  readonly amend?: (plan: Plan) => Plan;
}

/** The road up to the plan. */
export interface Planned {
  readonly model: Model;
  /** The model before all passes. */
  readonly graph: Graph;
  readonly stages: readonly Stage[];
  /** Null when the road was left early. */
  readonly plan: Plan | null;
  /** In the order tried; the last is the plan's. */
  readonly trials: readonly Trial[];
  /** FLOPs of a step of all ranks, by the customary count: causal, nothing for recomputation. */
  readonly modelFlops: number;
  readonly seconds: Readonly<Record<string, number>>;
}

/** Lowers, runs the passes and plans. A plan that needs more than the limits is returned all the same, and its trial says so. */
export async function planConfig(config: Config, options: PlanningOptions = {}): Promise<Planned> {
  const clock = new Clock();
  const model = readModel("directory" in config.model ? config.model.directory : config.model, ".");
  const graph = await lowerDefinition({
    file: model.file,
    ...(model.className !== null && { className: model.className }),
    config: model.config,
    name: basename(model.file, ".ts"),
    batch: config.micro_batch_size * config.parallel.data,
    sequence: paddedSequence(config),
    mesh: meshOf(config),
  });
  clock.lap("frontend");
  const choice = choose(graph, config, options);
  clock.lap("passes and plan");
  const modelFlopsOfStep = modelFlops(graph) * config.gradient_accumulation_steps;
  return { model, graph, ...choice, modelFlops: modelFlopsOfStep, seconds: clock.seconds };
}

/** Compiles what a configuration describes. Throws UserError for what the user can mend, PassError for our faults. */
export async function compileConfig(config: Config, options: CompileOptions = {}): Promise<Compiled> {
  const { stopAfter } = options;
  const planned = await planConfig(config, stopAfter === undefined ? {} : { stopAfter });
  const { model, graph, stages, plan, trials } = planned;
  const excess = trials.at(-1)?.excess ?? null;
  if (excess !== null) {
    throw new UserError(excess, { remedy: remedyFor(config) });
  }
  const clock = new Clock();
  const emitting = { threads: config.threads, modelFlops: planned.modelFlops };
  const emit = config.target === "cuda" ? emitCuda : emitCpu;
  const sources = plan ? emit(plan, emitting) : [];
  clock.lap("codegen");
  const compiled: Compiled = {
    model,
    sources,
    plan,
    stages: stages.map(withText),
    get planText() {
      return plan ? printPlan(plan) : "";
    },
    parameters: parameterCount(graph),
    seconds: { ...planned.seconds, ...clock.seconds },
  };
  if (options.dump !== undefined) writeDump(compiled, options.dump);
  return compiled;
}

/** Steps, buffers and offsets for a graph. A plan with a race is our fault and does not compile. */
export function planOf(graph: Graph, target: Target, verify = true): Plan {
  const plan = planMemory(schedule(graph, target));
  const [race] = verify ? findRaces(plan) : [];
  if (race) throw new Error(`the plan has a race: ${race.message}`);
  return plan;
}

/** The mesh of a run: axes of degree 1 are left out. Ranks of one sample's sequence are neighbours. */
function meshOf({ parallel }: Config): Mesh {
  const axes: [string, number][] = [
    ["dp", parallel.data],
    ["sp", parallel.sequence],
  ];
  return new Map(axes.filter(([, degree]) => degree > 1));
}

/** The sequence as the program sees it: filled up so that it can be shared evenly. The data reader masks the rest. */
function paddedSequence({ sequence_length, parallel }: Config): number {
  return Math.ceil(sequence_length / parallel.sequence) * parallel.sequence;
}

type Choice = Pick<Planned, "stages" | "plan" | "trials">;
type Policy = Pick<Trial, "checkpointing" | "offloadLayers">;

/** Runs the passes and plans. Where the compiler decides, the first policy that fits the limits is taken. */
function choose(graph: Graph, config: Config, options: PlanningOptions): Choice {
  const { stopAfter, verify = true, amend = (plan) => plan } = options;
  const own = config.target === "cuda" ? cudaTarget(graph.mesh) : cpuTarget(graph.mesh, config.threads);
  const target = options.target?.(graph.mesh) ?? own;
  const trials: Trial[] = [];
  const attempt = (policy: Policy): Choice => {
    const stages = runPipeline(graph, trainingPipeline(pipelineOptions(config, policy)), {
      verify,
      ...(stopAfter !== undefined && { stopAfter }),
    });
    if (stopAfter !== undefined) return { stages, plan: null, trials };
    const plan = amend(planOf(stages[stages.length - 1].graph, target, verify));
    const { deviceBytes, hostBytes } = plan;
    trials.push({ ...policy, deviceBytes, hostBytes, excess: excessOf(plan, config) });
    return { stages, plan, trials };
  };
  const fits = ({ plan }: Choice) => plan === null || excessOf(plan, config) === null;
  let choice: Choice | null = null;
  for (const policy of policiesOf(config)) {
    choice = attempt(policy);
    // As many layers as it takes: a copy's place may be taken by another value, so the plan has the last word.
    for (let more: number | null = 0; !fits(choice) && more !== null; ) {
      more = layersToOffload(choice, trials[trials.length - 1].offloadLayers, config);
      if (more !== null) choice = attempt({ ...policy, offloadLayers: more });
    }
    if (fits(choice)) break;
  }
  return choice as Choice;
}

/** Policies in the order of what they cost in time. */
function policiesOf({ memory }: Config): Policy[] {
  const { activation_checkpointing: checkpointing, activation_offload: offload } = memory;
  if (offload === "host" && checkpointing === "off") {
    throw new UserError("memory.activation_offload: host moves what checkpoints keep, and there are none", {
      remedy:
        "Set memory.activation_checkpointing to layer, attention or auto, or activation_offload to auto.",
    });
  }
  const isGrouped = typeof memory.head_groups === "number" && memory.head_groups > 1;
  if (isGrouped && checkpointing === "attention") {
    throw new UserError(
      `memory.activation_checkpointing: attention keeps what all heads give, memory.head_groups: ${memory.head_groups} computes it anew`,
      { remedy: "Set memory.activation_checkpointing to layer, or memory.head_groups to off." },
    );
  }
  const offloadLayers = offload === "host" ? Number.POSITIVE_INFINITY : 0;
  const least =
    offload === "host" ? (["attention", "layer"] as const) : (["off", "attention", "layer"] as const);
  const able = least.filter((own) => own !== "attention" || !isGrouped);
  return (checkpointing === "auto" ? able : [checkpointing]).map((own) => ({
    checkpointing: own,
    offloadLayers,
  }));
}

/** How many layers must keep their checkpoints in host memory for the plan to fit the device; null where that can't help. */
function layersToOffload({ stages, plan }: Choice, before: number, { memory }: Config): number | null {
  const { activation_offload: offload, device_limit: device, host_limit: host } = memory;
  if (offload !== "auto" || !plan || device === null || plan.hostBytes > (host ?? Infinity)) return null;
  const at = stages.findIndex(({ pass }) => pass === "offload");
  const bytes = offloadableBytes(stages[at - 1].graph);
  let layers = before;
  for (let missing = plan.deviceBytes - device; missing > 0 && layers < bytes.length; layers++)
    missing -= bytes[layers];
  return layers > before ? layers : null;
}

/** What of the configuration would need less memory, and is not set already. */
function remedyFor(config: Config): string {
  const { activation_checkpointing: checkpointing, activation_offload: offload } = config.memory;
  const ways = [
    "shorten sequence_length",
    ...(config.micro_batch_size > 1 ? ["lower micro_batch_size"] : []),
    ...(config.precision === "fp32" ? ["use precision: bf16"] : []),
    ...(checkpointing === "off" || checkpointing === "attention"
      ? ["set memory.activation_checkpointing: layer"]
      : []),
    ...(offload === "off" && checkpointing !== "off" ? ["set memory.activation_offload: auto"] : []),
    ...(config.memory.host_limit !== null && offload !== "off" ? ["raise memory.host_limit"] : []),
    "share the sequence between more ranks (parallel.sequence)",
  ];
  const text = ways.join(", or ");
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

/** What is wrong where the plan needs more memory than a rank may have; null where it fits. */
function excessOf(plan: Plan, { memory }: Config): string | null {
  const limits = [
    ["device", plan.deviceBytes, memory.device_limit],
    ["host", plan.hostBytes, memory.host_limit],
  ] as const;
  for (const [kind, needed, limit] of limits) {
    if (limit === null || needed <= limit) continue;
    return `a step needs ${printBytes(needed)} of ${kind} memory, ${printBytes(needed - limit)} more than memory.${kind}_limit (${printBytes(limit)})`;
  }
  return null;
}

function pipelineOptions(config: Config, policy: Policy) {
  const { tiled_loss, tiled_mlp, tiled_projections, head_groups } = config.memory;
  const tiles = (asked: "auto" | "off" | number) => (asked === "auto" ? 0 : asked === "off" ? 1 : asked);
  return {
    ...policy,
    precision: config.precision,
    packed: hasDocuments(config.data),
    gradientAccumulationSteps: config.gradient_accumulation_steps,
    lossTiles: tiles(tiled_loss),
    mlpTiles: tiled_mlp === "auto" ? 1 : tiles(tiled_mlp),
    projectionTiles: tiled_projections === "auto" ? 1 : tiles(tiled_projections),
    headGroups: typeof head_groups === "number" ? head_groups : 1,
    beta1: config.adam_beta1,
    beta2: config.adam_beta2,
    epsilon: config.adam_epsilon,
    weightDecay: config.weight_decay,
    maxGradNorm: config.max_grad_norm ?? 0,
  };
}

function withText(stage: Stage): CompiledStage {
  return {
    ...stage,
    get text() {
      return print(stage.graph);
    },
  };
}

function writeDump({ stages, plan }: Compiled, folder: string): void {
  mkdirSync(folder, { recursive: true });
  stages.forEach(({ pass, text }, i) => {
    writeFileSync(join(folder, `${String(i).padStart(2, "0")}-${pass}.ir`), text);
  });
  if (plan) writeFileSync(join(folder, "plan.txt"), printPlan(plan));
}

/** Seconds since the lap before, by name. */
class Clock {
  readonly seconds: Record<string, number> = {};
  #last = performance.now();

  lap(name: string): void {
    const now = performance.now();
    this.seconds[name] = (now - this.#last) / 1000;
    this.#last = now;
  }
}
