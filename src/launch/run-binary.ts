/** @file Runs the training binary and stays with it: its progress, its messages, signals, and how it ended. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants as osConstants } from "node:os";
import { basename, join } from "node:path";
import type { Config } from "../config/load.ts";
import { endIfAbandoned } from "./abandoned.ts";
import { followMetrics, type StepMetrics } from "./follow.ts";
import { type MpiJob, MpirunOutput, mpirunArguments, mpirunSignal } from "./mpirun.ts";
import type { OuterJob } from "./outer-job.ts";
import { type ProgressDisplay, showProgress } from "./progress.ts";

export interface TrainResult {
  /** 0, 1, or 128 and the number of the signal that ended the run. */
  readonly exitCode: number;
  /** Of the last step; undefined if there was none. */
  readonly last: StepMetrics | undefined;
}

/**
 * How the ranks start: as threads of one process, as processes of this one's or of mpirun's, or as the job that this
 * process is in.
 */
export type Start =
  | { readonly by: "itself"; readonly ranks: number }
  | { readonly by: "processes"; readonly ranks: number; readonly port: number }
  | { readonly by: "mpirun"; readonly job: MpiJob }
  | { readonly by: "job"; readonly job: OuterJob };

interface RunOptions {
  /** Where plain progress lines go. */
  readonly lines: NodeJS.WritableStream;
  /** One rank that starts by itself unless given. */
  readonly start?: Start;
}

/** Starts `train --run FILE` and shows its progress, which in a job is the first process's part. Passes signals on. */
export async function runBinary(
  binary: string,
  run: string,
  config: Pick<Config, "output_dir" | "max_steps" | "resume">,
  { lines, start = { by: "itself", ranks: 1 } }: RunOptions,
): Promise<TrainResult> {
  const firstStep = Number(/^step-(\d+)$/.exec(basename(config.resume ?? ""))?.[1] ?? 0);
  const isTerminal = process.stderr.isTTY === true;
  let display: ProgressDisplay | undefined;
  let last: StepMetrics | undefined;
  const leads = start.by !== "job" || start.job.rank === 0;
  const follower = followMetrics(join(config.output_dir, "metrics.jsonl"), firstStep, (metrics) => {
    if (!leads) return;
    last = metrics;
    display ??= showProgress({ maxSteps: config.max_steps, firstStep, lines, isTerminal });
    display.step(metrics);
  });

  const mpirun = start.by === "mpirun" ? new MpirunOutput() : undefined;
  const before = start.by === "mpirun" ? ["mpirun", ...mpirunArguments(start.job)] : [];
  const [command = binary, ...args] = [...before, binary, "--run", run];
  // In a group of its own Ctrl-C on a terminal reaches this process alone, and is passed on once; in a job it is the
  // launcher that signals groups. Standard output is the result of the command, so what the binary has to say goes to
  // standard error.
  const children = environmentsOf(start).map((env) =>
    spawn(command, args, { stdio: ["ignore", 2, "pipe"], detached: start.by !== "job", env }),
  );
  const signals = passSignals(children, start);
  const abandoned = mpirun && endIfAbandoned(children[0] as ChildProcess);
  let said = "";
  const say = (text: string) => {
    if (text === "") return;
    said = (said + text).slice(-4096);
    if (display) display.message(text);
    else process.stderr.write(text);
  };
  for (const { stderr } of children) {
    stderr?.setEncoding("utf8").on("data", (text: string) => say(mpirun ? mpirun.add(text) : text));
  }
  try {
    const ends = await Promise.all(children.map(endOf));
    // Of several, one that a signal ended is the cause of the others' end.
    const [code, signal] =
      ends.find(([, signal]) => signal !== null) ?? ends.find(([code]) => code !== 0) ?? ([0, null] as const);
    follower.stop();
    say(mpirun?.end() ?? "");
    display?.stop();
    // Ended by a second signal, or by the first one, where it came before the ranks could take it as a wish.
    const early = signal === "SIGUSR1" || code === 128 + osConstants.signals.SIGUSR1;
    if (mpirun && (signals.passed > 1 || (signals.passed > 0 && early))) return { exitCode: 130, last };
    if (abandoned?.happened) {
      if (said === "")
        process.stderr.write(`${mpirun?.said ?? ""}ithaca: the ranks ended, and mpirun did not\n`);
      return { exitCode: 1, last };
    }
    const after = last === undefined ? " before the first step" : ` after step ${last.step}`;
    if (mpirun?.death !== undefined) {
      process.stderr.write(`ithaca: ${mpirun.death}${after}\n`);
    } else if (signal !== null) {
      process.stderr.write(`ithaca: ${deathOf(start, signal, leads ? after : "")}\n`);
    } else if (code !== 0 && mpirun?.couldNotStart) {
      process.stderr.write(
        `${mpirun.said}ithaca: mpirun could not start the ranks${remedyFor(start, binary)}\n`,
      );
    } else if (code !== 0 && said === "") {
      process.stderr.write(mpirun?.said ?? "");
      process.stderr.write(`ithaca: the training process ended with exit code ${code}\n`);
    }
    return { exitCode: code ?? 128 + (signal === null ? 0 : osConstants.signals[signal]), last };
  } finally {
    abandoned?.stop();
    follower.stop();
    signals.stop();
  }
}

/** One for each process to start: those of this process's own know by it who they are, and where they meet. */
function environmentsOf(start: Start): NodeJS.ProcessEnv[] {
  if (start.by !== "processes") return [process.env];
  return Array.from({ length: start.ranks }, (_, rank) => ({
    ...process.env,
    RANK: `${rank}`,
    LOCAL_RANK: `${rank}`,
    WORLD_SIZE: `${start.ranks}`,
    LOCAL_WORLD_SIZE: `${start.ranks}`,
    MASTER_ADDR: "127.0.0.1",
    MASTER_PORT: `${start.port}`,
  }));
}

type End = readonly [code: number | null, signal: NodeJS.Signals | null];

function endOf(child: ChildProcess): Promise<End> {
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve([code, signal]));
  });
}

/** What hosts need, where there are several. */
function remedyFor(start: Start, binary: string): string {
  if (start.by !== "mpirun" || start.job.hosts === null) return "";
  const hosts = start.job.hosts.map(({ host }) => host).join(", ");
  return ` on ${hosts}: this machine must reach each by ssh without a password, and each must have Open MPI in its PATH and ${binary}`;
}

/** What a signal did to the process that this one has started, and to which ranks. */
function deathOf(start: Start, signal: NodeJS.Signals, after: string): string {
  const isKill = signal === "SIGKILL";
  const how = `${isKill ? "killed" : `ended by ${signal}`}${after}`;
  const why = isKill ? ", most likely for want of memory (see dmesg)" : "";
  if (start.by === "itself" && start.ranks > 1) {
    return `ranks 0 to ${start.ranks - 1}, threads of one process, were ${how}${why}`;
  }
  // The ranks themselves have said which of them it was.
  if (start.by === "processes") return `a rank was ${how}${why}`;
  const who =
    start.by === "job" ? `rank ${start.job.rank}` : start.by === "mpirun" ? "mpirun" : "the training process";
  return `${who} was ${how}${why}`;
}

/** Passes Ctrl-C and its like on to `children`, and ends them with this process. */
function passSignals(
  children: readonly ChildProcess[],
  start: Start,
): { readonly passed: number; stop(): void } {
  const signals = [
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
    ...(start.by === "job" ? (["SIGUSR1"] as const) : []),
  ] as const;
  let passed = 0;
  const pass = (signal: NodeJS.Signals) => {
    // The launcher of a job signals the binary as well.
    if (start.by === "job") return;
    const passedOn = start.by === "mpirun" ? mpirunSignal(passed) : signal === "SIGHUP" ? "SIGTERM" : signal;
    for (const child of children) child.kill(passedOn);
    passed += 1;
  };
  const killChild = () => {
    for (const child of children) child.kill("SIGKILL");
  };
  for (const signal of signals) process.on(signal, pass);
  process.on("exit", killChild);
  return {
    get passed() {
      return passed;
    },
    stop() {
      for (const signal of signals) process.off(signal, pass);
      process.off("exit", killChild);
    },
  };
}
