/** @file The run file: all that the training binary needs to know about one run, as JSON. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { writeWhole } from "../cache.ts";
import type { Config } from "../config/load.ts";
import type { PreparedData } from "../data/prepare.ts";
import type { Model } from "../frontend/huggingface.ts";
import { UserError } from "../ir/error.ts";

/** Read by runtime/train/run_file.cc, which checks every value again. */
export interface RunFile {
  readonly data: PreparedData;
  /** Empty: parameters start at the program's own initial values. */
  readonly weights: readonly string[];
  readonly seed: number;
  readonly output_dir: string;
  readonly config_json: string;
  readonly extra_files: readonly string[];
  readonly vocab_size: number;
  /** Tokens of a sample; the program's own sequence may be longer, to divide among ranks. */
  readonly sequence_length: number;
  readonly max_steps: number;
  readonly learning_rate: number;
  readonly lr_scheduler_type: "constant" | "linear" | "cosine";
  readonly warmup_steps: number;
  readonly snapshot_every: number;
  readonly resume: string | null;
  readonly save_final: boolean;
  /** A folder for rank-N.json, the trace of a step; null for none. */
  readonly trace: string | null;
  /** The folder of the ranks' files; null where there are none. */
  readonly host_spill: string | null;
  readonly threads: number;
  readonly ranks: number;
  readonly comm: "local" | "mpi" | "nccl";
  /** Of a rank's silence; 0: for ever. */
  readonly timeout_s: number;
}

/** `build` is where the configuration of a model without a config.json is written. */
export async function runFile(
  config: Config,
  model: Model,
  data: PreparedData,
  build: string,
  trace: string | null = null,
): Promise<RunFile> {
  let configJson = model.configFile;
  if (configJson === null) {
    configJson = join(build, "config.json");
    await mkdir(build, { recursive: true });
    await writeWhole(configJson, `${JSON.stringify(model.config, null, 2)}\n`);
  }
  return {
    data,
    weights: model.weights,
    seed: config.seed,
    output_dir: config.output_dir,
    config_json: configJson,
    extra_files: extraFiles(config, model),
    vocab_size: vocabularySize(model),
    sequence_length: config.sequence_length,
    max_steps: config.max_steps,
    learning_rate: config.learning_rate,
    lr_scheduler_type: config.lr_scheduler_type,
    warmup_steps: config.warmup_steps,
    snapshot_every: config.snapshot_every,
    resume: config.resume,
    save_final: true,
    trace,
    host_spill: config.memory.host_spill,
    threads: config.threads,
    ranks: config.parallel.sequence * config.parallel.data,
    comm: config.parallel.comm,
    timeout_s: config.parallel.timeout,
  };
}

/** Throws UserError where the model doesn't say. */
export function vocabularySize({ vocabularySize: size }: Model): number {
  if (size !== null) return size;
  throw new UserError("the configuration of the model has no vocab_size", {
    location: "model",
    remedy: "Add it to model.config: every token of the data is checked against it before training.",
  });
}

/** The model's, and of a tokenizer from elsewhere the two files that it is read from. */
function extraFiles({ tokenizer }: Config, { extraFiles: own }: Model): readonly string[] {
  if (tokenizer === null || own.includes(tokenizer)) return own;
  const files = [tokenizer, join(dirname(tokenizer), "tokenizer_config.json")].filter(existsSync);
  const names = files.map((file) => basename(file));
  return [...files, ...own.filter((file) => !names.includes(basename(file)))];
}
