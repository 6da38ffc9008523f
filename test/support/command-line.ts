/** @file `ithaca train` as a process, and its ranks as processes, for tests that signal them. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, vi } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";

/**
 * What this process writes to standard output and error, collected anew in each test of the file instead of shown. A test
 * may empty it.
 */
export function captured(): { stdout: string; stderr: string } {
  const said = { stdout: "", stderr: "" };
  beforeEach(() => {
    for (const stream of ["stdout", "stderr"] as const) {
      said[stream] = "";
      vi.spyOn(process[stream], "write").mockImplementation((text) => {
        said[stream] += text;
        return true;
      });
    }
  });
  afterEach(() => void vi.restoreAllMocks());
  return said;
}

/** Runs `ithaca ARGS` in this process, outside of tests, without a word; gives its exit code. */
export async function quietly(...args: string[]): Promise<number> {
  const spies = (["stdout", "stderr"] as const).map((stream) =>
    vi.spyOn(process[stream], "write").mockImplementation(() => true),
  );
  try {
    return await runCommandLine(args);
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface Training {
  readonly child: ChildProcess;
  readonly output: string;
  /** All that was written so far. */
  readonly stdout: string;
  readonly stderr: string;
  /** Resolves with the exit code; -1 after a signal. */
  readonly exit: Promise<number>;
}

/** The golden Llama with a sequence that neither two nor four ranks share evenly. */
const values = {
  model: join(root, "test/golden/llama/model"),
  data: join(root, "test/golden/tokens.bin"),
  sequence_length: 770,
  max_steps: 5,
  learning_rate: 1e-3,
  // Adam divides gradients near zero by ones as small, and so makes their rounding large. This keeps it small.
  adam_epsilon: 1e-5,
  threads: 1,
};

/** Writes a configuration into `folder`; returns its path and its output_dir. */
export function writeConfig(folder: string, name: string, changes: object): { file: string; output: string } {
  const output = join(folder, name);
  const file = join(folder, `${name}.yaml`);
  writeFileSync(file, JSON.stringify({ ...values, output_dir: output, ...changes }));
  return { file, output };
}

export const ithacaTrain: readonly string[] = [
  process.execPath,
  ...["--import", "tsx", join(root, "src/cli/main.ts"), "train"],
];

/** Starts `ithaca train` in `folder`, behind the words of `before`: a launcher, or what enters another host. */
export function startTraining(
  folder: string,
  name: string,
  changes: object,
  before: (command: readonly string[]) => readonly string[] = (command) => command,
): Training {
  const { file, output } = writeConfig(folder, name, changes);
  const [program = "", ...args] = before([...ithacaTrain, file]);
  const child = spawn(program, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const said = { stdout: "", stderr: "" };
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      said[stream] += text;
    });
  }
  const exit = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? -1));
  });
  return {
    child,
    output,
    exit,
    get stdout() {
      return said.stdout;
    },
    get stderr() {
      return said.stderr;
    },
  };
}

/** The lines of metrics.jsonl that are there by now. */
export function metricsOf(output: string): { readonly step: number; readonly loss: number }[] {
  try {
    const text = readFileSync(join(output, "metrics.jsonl"), "utf8");
    return text
      .slice(0, text.lastIndexOf("\n"))
      .split("\n")
      .map((line) => JSON.parse(line));
  } catch {
    return [];
  }
}

export async function until<T>(what: string, find: () => T | undefined | false): Promise<T> {
  const begin = Date.now();
  while (Date.now() - begin < 60_000) {
    const found = find();
    if (found !== undefined && found !== false) return found;
    await sleep(20);
  }
  throw new Error(`${what} did not come`);
}

/** The training processes that run in `output`; of an MPI job the one of a rank. */
export function processesOf(output: string, rank?: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const [command] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        if (command !== join(output, "build/train")) return false;
        if (rank === undefined) return true;
        const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
        return environment.includes(`OMPI_COMM_WORLD_RANK=${rank}`);
      } catch {
        return false; // it ended meanwhile, or is another user's
      }
    })
    .map(Number);
}
