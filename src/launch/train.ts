/** @file Trains: prepares the data, builds the program, starts it and stays with it to the end. */
import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { dirname, join } from "node:path";
import { writeWhole } from "../cache.ts";
import { buildProgram, type Report, type Source } from "../codegen/build.ts";
import { requireMpi } from "../codegen/toolchain.ts";
import { placeRanks } from "../config/hosts.ts";
import type { Config } from "../config/load.ts";
import { prepareData } from "../data/prepare.ts";
import type { Model } from "../frontend/huggingface.ts";
import { UserError } from "../ir/error.ts";
import type { OuterJob } from "./outer-job.ts";
import { runBinary, type Start, type TrainResult } from "./run-binary.ts";
import { runFile, vocabularySize } from "./run-file.ts";
import { beginProfile, endProfile, profileFiles } from "./trace.ts";

export interface TrainOptions {
  /** Told what takes time before the first step. */
  readonly report: Report;
  /** Where plain progress lines go. */
  readonly lines: NodeJS.WritableStream;
  /** The job that this process is part of. */
  readonly job?: OuterJob | null;
  /** Whether a trace of the second step is written to output_dir/trace.json. */
  readonly profile?: boolean;
}

/** Trains what `compiled` describes. Everything is written under `config.output_dir`. Throws UserError, BuildError. */
export async function train(
  compiled: { readonly sources: readonly Source[]; readonly model: Model },
  config: Config,
  options: TrainOptions,
): Promise<TrainResult> {
  const build = join(config.output_dir, "build");
  const { model } = compiled;
  const { comm } = config.parallel;
  if (comm === "mpi") await requireMpi(); // before the data, which may take a while
  requireWritable(config.output_dir);
  const data = await prepareData(config, vocabularySize(model), percent("reading the text", options.report));
  const program = await buildProgram(compiled.sources, build, config.target, options.report, comm);
  const path = join(build, "run.json");
  const profile = options.profile ? profileFiles(config.output_dir) : null;
  if (profile) beginProfile(profile);
  const run = await runFile(config, model, data, build, profile?.folder ?? null);
  await writeWhole(path, `${JSON.stringify(run, null, 2)}\n`);
  const start = await startOf(config, options.job ?? null);
  const result = await runBinary(program.train, path, config, { ...options, start });
  const trace = profile && endProfile(profile);
  if (trace) options.report(`${trace} has the times of one step, for ithaca view --trace or Perfetto`);
  return result;
}

/** How the ranks start. A job of torchrun's has no say but for NCCL: its first process runs all ranks. */
export async function startOf({ parallel }: Config, job: OuterJob | null): Promise<Start> {
  const ranks = parallel.sequence * parallel.data;
  if (parallel.comm === "local") return { by: "itself", ranks };
  if (job && (job.launcher !== "torchrun" || parallel.comm === "nccl")) return { by: "job", job };
  if (parallel.comm === "nccl") {
    return ranks === 1 ? { by: "itself", ranks } : { by: "processes", ranks, port: await freePort() };
  }
  const hosts = parallel.hosts && placeRanks(parallel.hosts, ranks);
  if (hosts && "message" in hosts) throw new Error(`parallel.hosts was not checked: ${hosts.message}`);
  return { by: "mpirun", job: { ranks, hosts, args: parallel.launcher_args } };
}

/** A port of this machine that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Reports every tenth of a long piece of work. */
function percent(what: string, report: Report): (done: number) => void {
  let next = 0.1;
  return (done) => {
    // What is done at the first report was no long piece of work.
    if (done < next || (done >= 1 && next === 0.1)) return;
    report(`${what}: ${Math.floor(done * 100)} %`);
    next = Math.floor(done * 10) / 10 + 0.1;
  };
}

/** Makes the folder; throws UserError unless files can be made in it. */
export function requireWritable(folder: string): void {
  try {
    // Asked of the nearest folder that there is: what mkdir says of a read-only file system is misleading.
    let there = folder;
    while (!existsSync(there)) there = dirname(there);
    accessSync(there, constants.W_OK);
    mkdirSync(folder, { recursive: true });
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code = "", message } = error as NodeJS.ErrnoException;
    const reasons: Readonly<Record<string, string>> = {
      EACCES: "permission denied",
      EEXIST: "there is a file of that name",
      ENOSPC: "no space left on the device",
      ENOTDIR: "a part of the path is a file",
      EROFS: "the file system is read-only",
    };
    throw new UserError(`output_dir ${folder} can't be written to: ${reasons[code] ?? message}`, {
      remedy: "Choose another folder: output_dir in the configuration, or --set output_dir=...",
    });
  }
}
