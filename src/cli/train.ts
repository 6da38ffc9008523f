/** @file `ithaca train`: compiles if stale, starts the ranks, shows progress. */
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Command } from "commander";
import { loadConfig } from "../config/load.ts";
import { type OuterJob, outerJob, requireFitting } from "../launch/outer-job.ts";
import { duration } from "../launch/progress.ts";
import { train } from "../launch/train.ts";
import { inspect } from "./inspect.ts";
import { type ConfigOptions, configCommand, type Exit, print, printJson, report } from "./output.ts";

interface TrainCommandOptions extends ConfigOptions {
  readonly profile: boolean;
}

/** What goes wrong in every process of a job, the first one says: the others give it the time to. */
const afterFirstMs = 2000;

export function trainCommand(exit: Exit): Command {
  return configCommand("train", "train a model; compiles first if something changed")
    .option("--profile", "write what ran when in the second optimizer step to output_dir/trace.json", false)
    .action(async (file: string, options: TrainCommandOptions) => {
      const job = outerJob();
      if (job === null || job.rank === 0) return trainAndTell(file, options, job, exit);
      try {
        await trainAlong(file, options, job, exit);
      } catch (error) {
        await sleep(afterFirstMs);
        throw error;
      }
    });
}

async function trainAndTell(
  file: string,
  options: TrainCommandOptions,
  job: OuterJob | null,
  exit: Exit,
): Promise<void> {
  const { set, json, profile } = options;
  const begin = performance.now();
  const config = loadConfig(file, set);
  if (job) requireFitting(job, config);
  const { compileConfig } = await import("../compile.ts");
  const compiled = await compileConfig(config);
  const inspected = inspect(compiled, options);
  const { exitCode, last } = await train(compiled, config, {
    report,
    lines: json ? process.stderr : process.stdout,
    job,
    profile,
  });
  exit(exitCode);
  const seconds = (performance.now() - begin) / 1000;
  const final = exitCode === 0 ? join(config.output_dir, "final") : null;
  if (json) {
    printJson({
      exit_code: exitCode,
      output_dir: config.output_dir,
      final,
      seconds,
      last_step: last ?? null,
      ...inspected,
    });
  } else if (final !== null) {
    print(`trained in ${duration(seconds)}; the model is in ${final}`);
  }
}

/** What a process of a job does that is not its first: the same, without a word. */
async function trainAlong(file: string, { set }: ConfigOptions, job: OuterJob, exit: Exit): Promise<void> {
  const config = loadConfig(file, set);
  requireFitting(job, config);
  if (job.launcher === "torchrun" && config.parallel.comm !== "nccl") return;
  const { compileConfig } = await import("../compile.ts");
  const silent = { report: () => {}, lines: new PassThrough().resume(), job };
  const { exitCode } = await train(await compileConfig(config), config, silent);
  exit(exitCode);
}
