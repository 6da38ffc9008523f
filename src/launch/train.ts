/** @file Trains: prepares the data, builds the program, starts it and stays with it to the end. */
import { spawn } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { constants as osConstants } from "node:os";
import { basename, dirname, join } from "node:path";
import { buildProgram, type Report, type Source } from "../codegen/build.ts";
import { requireMpi } from "../codegen/toolchain.ts";
import type { Config } from "../config/load.ts";
import { prepareData } from "../data/prepare.ts";
import type { Model } from "../frontend/huggingface.ts";
import { UserError } from "../ir/error.ts";
import { followMetrics, type StepMetrics } from "./follow.ts";
import { MpirunOutput, mpirunArguments, mpirunSignal } from "./mpirun.ts";
import { type ProgressDisplay, showProgress } from "./progress.ts";
import { runFile, vocabularySize } from "./run-file.ts";

export interface TrainOptions {
  /** Told what takes time before the first step. */
  readonly report: Report;
  /** Where plain progress lines go. */
  readonly lines: NodeJS.WritableStream;
}

export interface TrainResult {
  /** 0, 1, or 128 and the number of the signal that ended the run. */
  readonly exitCode: number;
  /** Of the last step; undefined if there was none. */
  readonly last: StepMetrics | undefined;
}

/** Trains what `compiled` describes. Everything is written under `config.output_dir`. Throws UserError, BuildError. */
export async function train(
  compiled: { readonly sources: readonly Source[]; readonly model: Model },
  config: Config,
  options: TrainOptions,
): Promise<TrainResult> {
  const build = join(config.output_dir, "build");
  const { model } = compiled;
  const { comm, sequence, data: replicas } = config.parallel;
  if (comm === "mpi") await requireMpi(); // before the data, which may take a while
  requireWritable(config.output_dir);
  const data = await prepareData(config, vocabularySize(model), percent("reading the text", options.report));
  const program = await buildProgram(compiled.sources, build, "cpu", options.report, comm);
  const path = join(build, "run.json");
  await writeFile(path, `${JSON.stringify(await runFile(config, model, data, build), null, 2)}\n`);
  const mpiRanks = comm === "mpi" ? sequence * replicas : undefined;
  return runBinary(program.train, path, config, { ...options, ...(mpiRanks !== undefined && { mpiRanks }) });
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

/**
 * Starts `train --run FILE`, with `mpiRanks` as that many processes of an MPI job, and shows its progress. Signals are
 * passed on to it.
 */
export async function runBinary(
  binary: string,
  run: string,
  config: Pick<Config, "output_dir" | "max_steps" | "resume">,
  { lines, mpiRanks }: Pick<TrainOptions, "lines"> & { readonly mpiRanks?: number },
): Promise<TrainResult> {
  const firstStep = Number(/^step-(\d+)$/.exec(basename(config.resume ?? ""))?.[1] ?? 0);
  let display: ProgressDisplay | undefined;
  let last: StepMetrics | undefined;
  const follower = followMetrics(join(config.output_dir, "metrics.jsonl"), firstStep, (metrics) => {
    last = metrics;
    display ??= start();
    display.step(metrics);
  });
  const start = () =>
    showProgress({ maxSteps: config.max_steps, firstStep, lines, isTerminal: process.stderr.isTTY === true });

  // A group of its own: Ctrl-C on a terminal reaches this process alone, and passes on once. Standard output is the
  // result of the command, so what the binary has to say goes to standard error.
  const mpirun = mpiRanks === undefined ? undefined : new MpirunOutput();
  const before = mpiRanks === undefined ? [binary] : ["mpirun", ...mpirunArguments(mpiRanks), binary];
  const [command = binary, ...args] = [...before, "--run", run];
  const child = spawn(command, args, { stdio: ["ignore", 2, "pipe"], detached: true });
  let passed = 0;
  const pass = (signal: NodeJS.Signals) => {
    const own = signal === "SIGHUP" ? "SIGTERM" : signal;
    child.kill(mpirun ? mpirunSignal(passed) : own);
    passed += 1;
  };
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const killChild = () => child.kill("SIGKILL");
  for (const signal of signals) process.on(signal, pass);
  process.on("exit", killChild);

  let said = "";
  const say = (text: string) => {
    if (text === "") return;
    said = (said + text).slice(-4096);
    if (display) display.message(text);
    else process.stderr.write(text);
  };
  child.stderr?.setEncoding("utf8").on("data", (text: string) => say(mpirun ? mpirun.add(text) : text));
  try {
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve([code, signal]));
    });
    follower.stop();
    say(mpirun?.end() ?? "");
    display?.stop();
    // Ended by a second signal, or by the first one, where it came before the ranks could take it as a wish.
    const early = signal === "SIGUSR1" || code === 128 + osConstants.signals.SIGUSR1;
    if (mpirun && (passed > 1 || (passed > 0 && early))) return { exitCode: 130, last };
    if (mpirun?.death !== undefined) {
      process.stderr.write(`ithaca: ${mpirun.death}\n`);
    } else if (signal === "SIGKILL") {
      process.stderr.write(
        "ithaca: the training process was killed, most likely for want of memory (see dmesg)\n",
      );
    } else if (signal !== null) {
      process.stderr.write(`ithaca: the training process ended by ${signal}\n`);
    } else if (code !== 0 && said === "") {
      process.stderr.write(mpirun?.said ?? "");
      process.stderr.write(`ithaca: the training process ended with exit code ${code}\n`);
    }
    return { exitCode: code ?? 128 + (signal === null ? 0 : osConstants.signals[signal]), last };
  } finally {
    follower.stop();
    for (const signal of signals) process.off(signal, pass);
    process.off("exit", killChild);
  }
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
