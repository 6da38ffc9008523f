/** @file The passes of a training step, in order. The text after each says why it stands where it does. */
import { accumulate } from "./accumulate.ts";
import { checkpoint } from "./checkpoint.ts";
import { differentiate } from "./differentiate.ts";
import { factorMesh } from "./factor-mesh.ts";
import { fuse } from "./fuse.ts";
import { groupCheckpoints } from "./group-checkpoints.ts";
import { headGroups } from "./head-groups.ts";
import { offload } from "./offload.ts";
import { offloadStates } from "./offload-states.ts";
import { oneDocument } from "./one-document.ts";
import { optimizer } from "./optimizer.ts";
import type { Pass, PassOptions } from "./pass.ts";
import { precision } from "./precision.ts";
import { reduce } from "./reduce.ts";
import { shard } from "./shard.ts";
import { simplify } from "./simplify.ts";
import { spill } from "./spill.ts";
import { tile } from "./tile.ts";
import { tileLoss } from "./tile-loss.ts";
import { tileMlp } from "./tile-mlp.ts";
import { ulysses } from "./ulysses.ts";
import { unroll } from "./unroll.ts";

export interface PipelineEntry {
  readonly pass: Pass;
  readonly why: string;
  readonly options: PassOptions;
  /** Where a pass that isn't one of ours was loaded from. */
  readonly file?: string;
}

/** What a training run asks of the passes. */
export interface TrainingOptions {
  /** Whether samples may hold several documents; so it is unless this is false. */
  readonly packed?: boolean;
  readonly precision: "fp32" | "bf16";
  readonly gradientAccumulationSteps: number;
  readonly checkpointing: "off" | "layer" | "attention" | "values";
  /** Of the policy `values`: what layers keep, by name, with blanks between. */
  readonly keep: string;
  /** Layers of which only the first one's input is kept; 1: every layer's is. */
  readonly checkpointEvery: number;
  /** Layers whose checkpoints wait in host memory; 0: none, Infinity: all. */
  readonly offloadLayers: number;
  /** Layers whose checkpoints go on from there to a file; likewise. */
  readonly spillLayers: number;
  /** Tiles of the loss; 0: as many as the pass thinks right, 1: none. */
  readonly lossTiles: number;
  /** Tiles of each MLP, and of what else in a layer works token by token; likewise. */
  readonly mlpTiles: number;
  readonly projectionTiles: number;
  /** Where tiles are 0, the most that the largest value inside one may take. */
  readonly tileBytes: number;
  /** Groups in which attention takes its heads; 1: all at once. */
  readonly headGroups: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** 0: no clipping. */
  readonly maxGradNorm: number;
  /** Where AdamW's moments wait between steps. */
  readonly optimizerStates: "device" | "host";
}

/** What a configuration asks that says nothing about it. */
export const DEFAULTS: TrainingOptions = {
  precision: "fp32",
  gradientAccumulationSteps: 1,
  checkpointing: "off",
  keep: "",
  checkpointEvery: 1,
  offloadLayers: 0,
  spillLayers: 0,
  lossTiles: 0,
  mlpTiles: 1,
  projectionTiles: 1,
  tileBytes: 2 ** 26,
  headGroups: 1,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 1,
  optimizerStates: "device",
};

function entry<O extends PassOptions>(
  pass: Pass<O>,
  why: string,
  options: Partial<Record<keyof O, PassOptions[string]>> = {},
): PipelineEntry {
  return { pass: pass as unknown as Pass, why, options: { ...pass.options, ...(options as PassOptions) } };
}

/** The list. After it come schedule and plan-memory, which make a Plan of the graph. */
export function trainingPipeline(options: TrainingOptions): PipelineEntry[] {
  return [
    ...(options.packed === false
      ? [entry(oneDocument, "first: what is known of the data holds for every pass")]
      : []),
    entry(precision, "types decide sizes, so everything after it sees the bytes that will be", {
      dtype: options.precision === "bf16" ? "bf16" : "f32",
    }),
    entry(factorMesh, "layouts name axes, so it decides which there are before any layout"),
    entry(shard, "layouts of the inputs decide every layout after"),
    entry(headGroups, "before ulysses, which then exchanges one group of heads at a time", {
      groups: options.headGroups,
    }),
    entry(ulysses, "needs to see which op has its sequence split; while layers are rolled up, once for all"),
    entry(
      tileMlp,
      "behind ulysses, which decides what a layer's nodes are; its gradient is a tile of its own",
      {
        tiles: options.mlpTiles,
        tile_bytes: options.tileBytes,
      },
    ),
    entry(tile, "takes what tile-mlp has left", {
      tiles: options.projectionTiles,
      tile_bytes: options.tileBytes,
    }),
    entry(checkpoint, "before unroll: a layer is still one thing, and can be recomputed as one", {
      policy: options.checkpointing,
      keep: options.keep,
    }),
    entry(
      unroll,
      "from here on layers may differ: in what is kept, where a gradient lies, when a weight is updated",
    ),
    entry(groupCheckpoints, "behind unroll, which tells layers apart; its gradient is differentiate's", {
      layers: options.checkpointEvery,
    }),
    entry(differentiate, "everything before it gets a gradient for free"),
    entry(simplify, "a cast behind a weight's gradient folds into its product; tied weights are cast once"),
    entry(
      tileLoss,
      "behind differentiate, so that a tile's logits serve the loss and its gradients at once",
      {
        tiles: options.lossTiles,
        tile_bytes: options.tileBytes,
      },
    ),
    entry(offload, "behind differentiate, which shows what waits for backward, and inside a micro batch", {
      layers: options.offloadLayers,
    }),
    entry(spill, "behind offload, which decides what is in host memory", { layers: options.spillLayers }),
    entry(accumulate, "wraps forward and backward, but not the optimizer", {
      steps: options.gradientAccumulationSteps,
    }),
    entry(reduce, "behind accumulate: ranks exchange gradients once a step"),
    entry(optimizer, "needs the gradients of the whole batch", {
      beta1: options.beta1,
      beta2: options.beta2,
      epsilon: options.epsilon,
      weight_decay: options.weightDecay,
      max_grad_norm: options.maxGradNorm,
    }),
    entry(offloadStates, "behind the optimizer, whose states it moves", { where: options.optimizerStates }),
    entry(fuse, "last, since it hides ops from every pass that looks for them"),
  ];
}

/** What a pass of the pipeline does, in a sentence; "" for a name that is none. */
export function passSummary(name: string): string {
  const all = trainingPipeline({ ...DEFAULTS, packed: false });
  return all.find(({ pass }) => pass.name === name)?.pass.summary ?? "";
}
