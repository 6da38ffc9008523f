/** @file Every key of config.yaml with its default and what it may be. Names are Hugging Face's where it has one. */
import { z } from "zod";
import {
  bytesOrNull,
  count,
  countBetween,
  countOrNull,
  model,
  number,
  numberOrNull,
  oneOf,
  oneOfOrCount,
  passList,
  text,
  textOrNull,
  texts,
  textsOrNull,
} from "./values.ts";

/** A section may be left out, or left empty. */
function section<Shape extends z.core.$ZodLooseShape>(shape: Shape) {
  return z.preprocess((input) => input ?? {}, z.strictObject(shape)).prefault({});
}

const parallel = {
  /** Ranks that share one sample's sequence. */
  sequence: count(1).default(1),
  /** Ranks, or groups of them, that take samples of their own. */
  data: count(1).default(1),
  zero_stage: countBetween(0, 3).default(0),
  /** Ranks are threads of one process (local), or processes that Open MPI connects (mpi), or NCCL on GPUs (nccl). */
  comm: oneOf("local", "mpi", "nccl").default("local"),
  /** With comm: mpi, where ranks run, "node1:4" for four of them; null: all on this machine, or where a scheduler says. */
  hosts: textsOrNull("a list of hosts such as [node1:4, node2:4]").default(null),
  /** With ranks that are processes, seconds without a sign of life after which a rank is given up and the run ends; 0: never. */
  timeout: count(0).default(30),
  /** With comm: mpi, what else mpirun is told, ahead of the program. */
  launcher_args: texts("a list of arguments of mpirun").default([]),
};

const memory = {
  tiled_loss: oneOfOrCount(1, "tiles", "auto", "off").default("auto"),
  tiled_mlp: oneOfOrCount(1, "tiles", "auto", "off").default("auto"),
  /** What works token by token in a layer beside its MLP: norms, projections, rotary embeddings. */
  tiled_projections: oneOfOrCount(1, "tiles", "auto", "off").default("auto"),
  /** Groups in which attention takes its heads, each projected, exchanged and projected back alone. */
  head_groups: oneOfOrCount(1, "groups", "auto", "off").default("auto"),
  /** "attention" is "layer", but attention's output is kept. */
  activation_checkpointing: oneOf("auto", "off", "layer", "attention").default("auto"),
  /** Layers of which only the first one's input is kept, the others' being computed again from it; 1: every layer's is. */
  checkpoint_every: oneOfOrCount(1, "layers", "auto").default("auto"),
  activation_offload: oneOf("auto", "off", "host").default("auto"),
  optimizer_offload: oneOf("off", "host").default("off"),
  parameter_offload: oneOf("off", "host").default("off"),
  /** Bytes of device memory of one rank; null: no limit. */
  device_limit: bytesOrNull().default(null),
  /** Bytes of host memory of one rank; null: no limit. */
  host_limit: bytesOrNull().default(null),
  /**
   * A folder, such as on a local NVMe drive: where checkpoints in host memory exceed host_limit, those that wait longest
   * wait in a file there, one a rank, which is gone when the run is. null: host memory is the last level.
   */
  host_spill: textOrNull("a folder").default(null),
};

export const schema = z.strictObject({
  model: model(),
  data: text("a .bin, .txt, .jsonl or .parquet file"),
  /** tokenizer.json or a folder with one; null: the model directory's. */
  tokenizer: textOrNull("a tokenizer.json or a folder with one").default(null),
  /** The field of a .jsonl line or column of a .parquet file that has the text. */
  text_field: text("the name of a field or column").default("text"),
  output_dir: text("a folder"),

  target: oneOf("cpu", "cuda").default("cpu"),
  precision: oneOf("fp32", "bf16").default("fp32"),
  /** Threads of one rank; null: the cores shared evenly by the ranks. */
  threads: countOrNull(1, "all cores").default(null),

  sequence_length: count(2),
  /** Samples of one data-parallel rank in one pass. */
  micro_batch_size: count(1).default(1),
  gradient_accumulation_steps: count(1).default(1),
  max_steps: count(1),
  seed: count(0).default(0),

  learning_rate: number("a number of at least 0", (x) => x >= 0),
  lr_scheduler_type: oneOf("constant", "linear", "cosine").default("constant"),
  warmup_steps: count(0).default(0),
  /** On parameters of two or more dimensions. */
  weight_decay: number("a number of at least 0", (x) => x >= 0).default(0.1),
  adam_beta1: number("a number from 0 to less than 1", (x) => x >= 0 && x < 1).default(0.9),
  adam_beta2: number("a number from 0 to less than 1", (x) => x >= 0 && x < 1).default(0.95),
  adam_epsilon: number("a number greater than 0", (x) => x > 0).default(1e-8),
  /** Gradients are scaled down to this global norm; null: they are not. */
  max_grad_norm: numberOrNull("a number greater than 0", (x) => x > 0).default(1),

  /** A snapshot to go on from is written every so many steps; 0: never. */
  snapshot_every: count(0).default(0),
  /** A snapshot folder to go on from. */
  resume: textOrNull("a snapshot folder").default(null),

  /** A machine that `ithaca plan` knows: it sets the limits that are null. */
  machine: textOrNull("the name of a machine such as h100-80gb").default(null),
  /** Ranks in all; parallel.sequence is then this over parallel.data. null: as `parallel` says. */
  gpus: countOrNull(1, "as many as parallel says").default(null),

  parallel: section(parallel),
  memory: section(memory),

  /** Files with ops of one's own: they are run, unlike a definition, which may import them. */
  ops: texts("a list of files such as [./my-op.ts]").default([]),
  /** Passes of one's own, and changes to the pipeline. */
  passes: passList().default([]),
});

export type ConfigValues = z.output<typeof schema>;

/** Every key as a path, sections included: "model", "parallel", "parallel.sequence" ... */
export const knownPaths: readonly string[] = Object.keys(schema.shape).flatMap((key) => {
  const nested = { parallel, memory }[key];
  return nested ? [key, ...Object.keys(nested).map((name) => `${key}.${name}`)] : [key];
});
