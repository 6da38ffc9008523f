/** @file Ranks as processes that meet over TCP: the collectives' bits, and an end with a name whatever ends one of them. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { buildExecutables } from "../../src/codegen/build.ts";
import { includeDirs, runtimeFlags } from "../../src/codegen/toolchain.ts";
import { runBinary } from "../../src/launch/run-binary.ts";
import { freePort } from "../../src/launch/train.ts";
import { metricsOf, startTraining } from "../support/command-line.ts";

const source = fileURLToPath(new URL("./mpi_ranks.cc", import.meta.url));
const patient = { timeout: 120_000 };
type Environment = Readonly<Record<string, string>>;
type OfRank = (rank: number, port: number) => Environment;

let program = "";
beforeAll(async () => {
  const units = [{ path: source, flags: runtimeFlags, includeDirs }];
  [program = ""] = await buildExecutables([{ name: "tcp_ranks", units }]);
}, 600_000);

/** Starts ranks and waits for all but those that are stopped, which it then kills. */
async function job(
  args: readonly string[],
  { ranks = [0, 1, 2, 3], stopped = -1, of = (() => ({})) as OfRank } = {},
) {
  const port = await freePort();
  const begin = performance.now();
  const ends = ranks.map((rank) => {
    const variables = { RANK: `${rank}`, WORLD_SIZE: "4", MASTER_ADDR: "127.0.0.1", MASTER_PORT: `${port}` };
    const env = { PATH: process.env.PATH, ...variables, ...of(rank, port) };
    const child = spawn(program, args, { env });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (text) => {
      stdout += text;
    });
    child.stderr.on("data", (text) => {
      stderr += text;
    });
    const end = new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) => {
      child.on("close", (code) => resolve({ code, stdout, stderr }));
    });
    return { rank, child, end };
  });
  const others = await Promise.all(ends.filter(({ rank }) => rank !== stopped).map(({ end }) => end));
  const seconds = (performance.now() - begin) / 1000;
  for (const { rank, child } of ends) if (rank === stopped) child.kill("SIGKILL");
  const all = (key: "stdout" | "stderr") => others.map((other) => other[key]).join("");
  return { codes: others.map(({ code }) => code), stdout: all("stdout"), stderr: all("stderr"), seconds };
}

test("a training run: the bits of ranks that are threads", patient, async () => {
  const folder = mkdtempSync(join(tmpdir(), "ithaca-tcp-"));
  try {
    const local = startTraining(folder, "local", { parallel: { sequence: 2 }, max_steps: 3 });
    expect(await local.exit, local.stderr).toBe(0);
    const file = join(folder, "run.json");
    const output = join(folder, "tcp");
    mkdirSync(output);
    const run = JSON.parse(readFileSync(join(local.output, "build/run.json"), "utf8"));
    writeFileSync(file, JSON.stringify({ ...run, comm: "nccl", output_dir: output }));
    const start = { by: "processes", ranks: 2, port: await freePort() } as const;
    const config = { output_dir: output, max_steps: 3, resume: null };
    const lines = new PassThrough().resume();
    const { exitCode } = await runBinary(join(local.output, "build/train"), file, config, { lines, start });
    expect(exitCode).toBe(0);
    const losses = (folder: string) => metricsOf(folder).map(({ loss }) => loss);
    expect(losses(output)).toHaveLength(3);
    expect(losses(output)).toEqual(losses(local.output));
    const weights = (folder: string) => readFileSync(join(folder, "final/model.safetensors"));
    expect(weights(output).equals(weights(local.output))).toBe(true);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

describe("ranks over TCP", () => {
  test("every collective, on two axes at a time", patient, async () => {
    const { stdout, stderr, codes } = await job([]);
    expect(stderr).toBe("");
    expect(stdout).toBe("all is right\n");
    expect(codes).toEqual([0, 0, 0, 0]);
  });

  test.each([
    ["srun", (rank: number) => ({ SLURM_PROCID: `${rank}`, SLURM_STEP_NUM_TASKS: "4", SLURM_JOB_ID: "77" })],
    ["NCCL_COMM_ID", (_: number, port: number) => ({ MASTER_ADDR: "", NCCL_COMM_ID: `127.0.0.1:${port}` })],
    ["torchrun, whose agent has MASTER_PORT", () => ({ TORCHELASTIC_USE_AGENT_STORE: "True" })],
  ] as [string, OfRank][])("meet by the variables of %s", patient, async (_, of) => {
    const { stdout, stderr } = await job([], { of: of });
    expect(stdout, stderr).toBe("all is right\n");
  });

  test.each([
    ["kill 2", -1, /^ithaca: rank 2 on \S+ is gone: it was killed, .*\n$/],
    ["kill 0", -1, /^ithaca: rank 0 at 127\.0\.0\.1 is gone: it was killed, .*\n$/],
    ["stop 2", 2, /^ithaca: rank 2 on \S+ has given no sign of life for 3 s: .*\n$/],
    ["stop 0", 0, /^ithaca: rank 0 at 127\.0\.0\.1 has given no sign of life for 3 s\n$/],
    [
      "other call",
      -1,
      /^ithaca: rank 3 on \S+ calls barrier where rank 2 on \S+ calls all_gather of 64 \(call 2\)/,
    ],
    [
      "other bytes",
      -1,
      /^ithaca: rank 3 on \S+ calls all_gather of 32 where rank 2 on \S+ calls all_gather of 64/,
    ],
    [
      "other type",
      -1,
      /^ithaca: rank 3 .* all_reduce of 16 f32 where rank 2 .* all_reduce of 16 i32 \(call 2\)/,
    ],
  ])("%s: all end within 10 s, with its name", patient, async (how, stopped, message) => {
    const { codes, stderr, seconds } = await job([how], { stopped });
    expect(stderr).toMatch(message);
    expect(codes).not.toContain(0);
    expect(seconds).toBeLessThan(10);
  });

  test("a rank that does not come is missed by name", patient, async () => {
    const { stderr, codes } = await job([], { ranks: [0, 1, 3] });
    expect(stderr).toMatch(/^ithaca: rank 2 did not come within 3 s; start one process for each rank/);
    expect(codes).toEqual([1, 1, 1]);
  });

  test("another program is refused", patient, async () => {
    const of = (rank: number) => ({ PROGRAM: rank === 3 ? "old" : "new" });
    const { stderr } = await job([], { of });
    expect(stderr).toMatch(/runs program \w+, another rank runs \w+; put the same build on every machine\n$/);
  });

  test("a launcher's number of ranks must be the program's", patient, async () => {
    const { stderr } = await job([], { ranks: [0], of: () => ({ WORLD_SIZE: "3" }) });
    expect(stderr).toContain("the program was compiled for 4 ranks, and WORLD_SIZE=3 is set");
  });
});
