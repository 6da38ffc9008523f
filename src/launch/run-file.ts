/** @file The run file: all that the training binary needs to know about one run, as JSON. */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Config } from "../config/load.ts";
import type { PreparedData } from "../data/prepare.ts";
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
  readonly max_steps: number;
  readonly learning_rate: number;
  readonly lr_scheduler_type: "constant" | "linear" | "cosine";
  readonly warmup_steps: number;
  readonly snapshot_every: number;
  readonly resume: string | null;
  readonly save_final: boolean;
  readonly threads: number;
  readonly ranks: number;
  readonly comm: "local" | "mpi" | "nccl";
}

/** Files of a model directory that belong to the trained model as they are. */
const companions = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "tokenizer.model",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
];

/** `build` is where the configuration of a model without a directory is written. */
export async function runFile(config: Config, data: PreparedData, build: string): Promise<RunFile> {
  let configJson: string;
  if ("directory" in config.model) {
    configJson = join(config.model.directory, "config.json");
  } else {
    configJson = join(build, "config.json");
    await mkdir(build, { recursive: true });
    await writeFile(configJson, `${JSON.stringify(config.model.config, null, 2)}\n`);
  }
  return {
    data,
    weights: "directory" in config.model ? weightFiles(config.model.directory) : [],
    seed: config.seed,
    output_dir: config.output_dir,
    config_json: configJson,
    extra_files: extraFiles(config),
    vocab_size: vocabSize(config),
    max_steps: config.max_steps,
    learning_rate: config.learning_rate,
    lr_scheduler_type: config.lr_scheduler_type,
    warmup_steps: config.warmup_steps,
    snapshot_every: config.snapshot_every,
    resume: config.resume,
    save_final: true,
    threads: config.threads,
    ranks: config.parallel.sequence * config.parallel.data,
    comm: config.parallel.comm,
  };
}

/** Size of the model's vocabulary, from its configuration. Throws UserError where it doesn't say. */
export function vocabSize(config: Config): number {
  let location: string;
  let values: Readonly<Record<string, unknown>>;
  if ("directory" in config.model) {
    location = join(config.model.directory, "config.json");
    values = readJson(location);
  } else {
    location = config.model.source;
    values = config.model.config;
  }
  const size = values.vocab_size;
  if (typeof size === "number" && Number.isInteger(size) && size > 0) return size;
  throw new UserError(
    `vocab_size is ${JSON.stringify(size) ?? "missing"}; it must be a whole number of at least 1`,
    {
      location,
      remedy: "Every token of the data is checked against it before training.",
    },
  );
}

/** The safetensors files of a model directory in their index's order; none if it has no weights. */
export function weightFiles(directory: string): string[] {
  const index = join(directory, "model.safetensors.index.json");
  if (existsSync(index)) {
    const map = readJson(index).weight_map;
    if (typeof map !== "object" || map === null) {
      throw new UserError('there is no "weight_map"', { location: index });
    }
    const files = [...new Set(Object.values(map).map(String))].map((name) => join(directory, name));
    const missing = files.find((file) => !existsSync(file));
    if (missing !== undefined) {
      throw new UserError(`${missing} is named here and is not there`, {
        location: index,
        remedy: "The download is incomplete; fetch the model again.",
      });
    }
    return files;
  }
  const single = join(directory, "model.safetensors");
  if (existsSync(single)) return [single];
  const pickle = ["pytorch_model.bin", "pytorch_model.bin.index.json"].find((name) =>
    existsSync(join(directory, name)),
  );
  if (pickle !== undefined) {
    throw new UserError(`the weights are in ${pickle}; only safetensors are read`, {
      location: directory,
      remedy: "Save the model again with transformers: model.save_pretrained(DIR, safe_serialization=True).",
    });
  }
  return [];
}

function extraFiles(config: Config): string[] {
  const folders = "directory" in config.model ? [config.model.directory] : [];
  if (config.tokenizer !== null) folders.unshift(dirname(config.tokenizer));
  return companions.flatMap((name) => folders.map((folder) => join(folder, name)).find(existsSync) ?? []);
}

function readJson(path: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw new UserError(`can't be read as JSON: ${(error as Error).message}`, { location: path });
  }
  throw new UserError("it must be a JSON object", { location: path });
}
