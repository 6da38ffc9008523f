/** @file The whole road: a configuration in, a plan and the sources of a training program out. */
import { basename } from "node:path";
import { adviceFor } from "./advice.ts";
import { type Choice, choose, type PlanningOptions, type Trial } from "./choose.ts";
import type { Source } from "./codegen/build.ts";
import { emitCpu } from "./codegen/cpu/emit.ts";
import { emitCuda } from "./codegen/cuda/emit.ts";
import type { Config } from "./config/load.ts";
import type { OpFile } from "./extend/ops.ts";
import { type Model, readModel } from "./frontend/huggingface.ts";
import { lowerDefinition } from "./frontend/index.ts";
import { UserError } from "./ir/error.ts";
import { modelFlops, parameterCount } from "./ir/flops.ts";
import type { Graph } from "./ir/graph.ts";
import { type Plan, printPlan } from "./ir/plan.ts";
import { print } from "./ir/print.ts";
import type { Mesh } from "./ir/type.ts";
import type { PipelineEntry } from "./passes/pipeline.ts";
import type { Stage } from "./passes/run.ts";

export interface CompileOptions {
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
  /** The passes that made the stages behind the first, in order. */
  readonly entries: readonly PipelineEntry[];
  /** The plan as text, made when it is asked for; "" where there is none. */
  readonly planText: string;
  /** Number of elements of all weights. */
  readonly parameters: number;
  /** Time of each part of the road, in seconds. */
  readonly seconds: Readonly<Record<string, number>>;
}

/** The road up to the plan. */
export interface Planned extends Choice {
  readonly model: Model;
  /** The model before all passes. */
  readonly graph: Graph;
  /** FLOPs of a step of all ranks, by the customary count: causal, nothing for recomputation. */
  readonly modelFlops: number;
  readonly seconds: Readonly<Record<string, number>>;
}

/** Lowers, runs the passes and plans. A plan that needs more than the limits is returned all the same, and its trial says so. */
export async function planConfig(config: Config, options: PlanningOptions = {}): Promise<Planned> {
  const clock = new Clock();
  const ops = config.ops.length > 0 ? await loadAllOps(config.ops) : [];
  const model = readModel("directory" in config.model ? config.model.directory : config.model, ".");
  const graph = await lowerDefinition({
    file: model.file,
    ...(model.className !== null && { className: model.className }),
    config: model.config,
    name: basename(model.file, ".ts"),
    batch: config.micro_batch_size * config.parallel.data,
    sequence: paddedSequence(config),
    mesh: meshOf(config),
    ops,
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
  const last = trials.at(-1);
  if (last && last.excess !== null) {
    const triedOf = (trial: Trial, { memory }: Config) => ({
      ...trial,
      limits: { device: memory.device_limit, host: memory.host_limit },
    });
    const plan = async (own: Config) => {
      const { trials: all } = await planConfig(own, { effort: "place", leastOnly: true });
      return triedOf(all[all.length - 1], own);
    };
    throw new UserError(last.excess, { remedy: await adviceFor(config, triedOf(last, config), plan) });
  }
  const clock = new Clock();
  const emitting = {
    threads: config.threads,
    modelFlops: planned.modelFlops,
    poison: process.env.ITHACA_POISON === "1",
  };
  const emit = config.target === "cuda" ? emitCuda : emitCpu;
  const sources = plan ? emit(plan, emitting) : [];
  clock.lap("codegen");
  return {
    model,
    sources,
    plan,
    stages: stages.map(withText),
    entries: planned.entries,
    get planText() {
      return plan ? printPlan(plan) : "";
    },
    parameters: parameterCount(graph),
    seconds: { ...planned.seconds, ...clock.seconds },
  };
}

async function loadAllOps(files: readonly string[]): Promise<readonly OpFile[]> {
  const { loadOps } = await import("./extend/ops.ts");
  return files.map((file) => loadOps(file, "ops"));
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

function withText(stage: Stage): CompiledStage {
  return {
    ...stage,
    get text() {
      return print(stage.graph);
    },
  };
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
