/** @file Ranks as processes of an MPI job: the numbers of local ranks bit for bit, and an end when one of them ends. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test, vi } from "vitest";
import { buildExecutables, mpiUnits } from "../../src/codegen/build.ts";
import {
  findMpi,
  includeDirs,
  installCommand,
  type Mpi,
  mpiPackages,
  requireMpi,
  runtimeFlags,
} from "../../src/codegen/toolchain.ts";
import { endIfAbandoned } from "../../src/launch/abandoned.ts";
import { mpirunArguments } from "../../src/launch/mpirun.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";
import { metricsOf, processesOf, startTraining, until } from "../support/command-line.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "ithaca-mpi-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const mpi = await findMpi();
if (!mpi) {
  console.log(
    `skipped: Open MPI isn't installed; with it the ranks of a run can be processes: ${installCommand(...mpiPackages)}`,
  );
}

const patient = { timeout: 120_000 };

const two = { sequence: 2, comm: "mpi" };

interface Result {
  readonly losses: readonly number[];
  readonly weights: Buffer;
  readonly file: string;
}

async function trained(name: string, changes: object): Promise<Result> {
  const run = startTraining(scratch, name, changes);
  expect(await run.exit, run.stderr).toBe(0);
  const file = join(run.output, "final/model.safetensors");
  return { losses: metricsOf(run.output).map(({ loss }) => loss), weights: readFileSync(file), file };
}

test("without Open MPI the packages to install are named", async () => {
  vi.stubEnv("PATH", scratch);
  try {
    await expect(requireMpi()).rejects.toMatchObject({
      message: expect.stringContaining("Open MPI (mpirun and mpicc) isn't found"),
      remedy: expect.stringContaining("apt-get install -y openmpi-bin libopenmpi-dev"),
    });
  } finally {
    vi.unstubAllEnvs();
  }
});

describe.skipIf(!mpi)("ranks of an MPI job", () => {
  test.each([
    ["sp 2", { sequence: 2 }, {}],
    ["sp 2 x dp 2", { sequence: 2, data: 2 }, { micro_batch_size: 2 }],
  ])("%s: local's numbers bit for bit, and one rank's", patient, async (name, degrees, single) => {
    const [one, local, processes] = [
      await trained(`one ${name}`, single),
      await trained(`local ${name}`, { parallel: degrees }),
      await trained(`mpi ${name}`, { parallel: { ...degrees, comm: "mpi" } }),
    ];
    expect(processes.losses).toEqual(local.losses);
    expect(processes.weights.equals(local.weights)).toBe(true);
    expect(processes.losses).toHaveLength(5);
    const withoutMpi = spawnSync(
      join(scratch, `local ${name}`, "build/train"),
      ["--run", join(scratch, `mpi ${name}`, "build/run.json")],
      { encoding: "utf8" },
    );
    expect(withoutMpi.stderr).toContain("this binary was linked without MPI");
    one.losses.forEach((loss, i) => {
      expect(Math.abs((processes.losses[i] as number) - loss) / loss).toBeLessThan(1e-5);
    });
    const own = readSafetensors(processes.file);
    for (const [tensor, data] of readSafetensors(one.file)) {
      const other = own.get(tensor) as Float32Array;
      const worst = data.reduce((most, x, i) => Math.max(most, Math.abs(x - (other[i] as number))), 0);
      expect(worst, tensor).toBeLessThan(1e-5);
    }
  });

  test("the wrong number of processes", patient, async () => {
    const run = startTraining(scratch, "world", { parallel: two, max_steps: 1 });
    expect(await run.exit, run.stderr).toBe(0);
    const binary = [join(run.output, "build/train"), "--run", join(run.output, "build/run.json")];
    const three = spawnSync("mpirun", [...mpirunArguments({ ranks: 3, hosts: null, args: [] }), ...binary], {
      encoding: "utf8",
    });
    expect(three.status).toBe(1);
    expect(three.stderr).toContain(
      "ithaca: the program was compiled for 2 ranks, MPI started 3; start it with mpirun -np 2, or compile it again\n",
    );
  });

  test("a rank that is killed ends the run and is named", patient, async () => {
    const run = startTraining(scratch, "killed", { parallel: two, max_steps: 1_000_000 });
    await until("a step", () => metricsOf(run.output).length > 3);
    const begin = performance.now();
    process.kill(await until("rank 1", () => processesOf(run.output, 1)[0]), "SIGKILL");
    expect(await run.exit).not.toBe(0);
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(run.stderr).toMatch(
      /^ithaca: rank 1 on \S+ was killed, .*; the other ranks were stopped after step \d+\n$/m,
    );
    expect(processesOf(run.output)).toEqual([]);
  });

  test("Ctrl-C ends a run in order", patient, async () => {
    const changes = { parallel: two, max_steps: 1_000_000, snapshot_every: 1_000_000 };
    const run = startTraining(scratch, "interrupted", changes);
    await until("a step", () => metricsOf(run.output).length > 3);
    run.child.kill("SIGINT");
    expect(await run.exit).toBe(130);
    expect(run.stderr).toMatch(/^ithaca: interrupted after step \d+; resume from \S+step-\d+\n$/m);
  });

  test("what goes wrong on every rank is said once", patient, async () => {
    const run = startTraining(scratch, "infinite", { parallel: two, learning_rate: 1e38, max_steps: 20 });
    expect(await run.exit).toBe(1);
    expect(run.stderr.match(/ithaca: .*(NaN|infinite)/g)).toHaveLength(1);
    expect(run.stderr).not.toContain("mpirun");
  });

  test("a rank that is stopped ends the run and is named", patient, async () => {
    const parallel = { ...two, timeout: 3 };
    const run = startTraining(scratch, "stopped", { parallel, max_steps: 1_000_000 });
    await until("a step", () => metricsOf(run.output).length > 3);
    const begin = performance.now();
    process.kill(await until("rank 1", () => processesOf(run.output, 1)[0]), "SIGSTOP");
    expect(await run.exit).not.toBe(0);
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(run.stderr).toMatch(
      /^ithaca: rank 1 on \S+ has given no sign of life for 3 s: it was stopped, or its machine is out of reach\n$/m,
    );
    expect(processesOf(run.output)).toEqual([]);
  });

  test("a run that is stopped as a whole goes on", patient, async () => {
    const run = startTraining(scratch, "paused", { parallel: { ...two, timeout: 1 }, max_steps: 1_000_000 });
    await until("a step", () => metricsOf(run.output).length > 3);
    const ranks = processesOf(run.output);
    expect(ranks).toHaveLength(2);
    for (const pid of ranks) process.kill(pid, "SIGSTOP");
    await sleep(2500);
    for (const pid of ranks) process.kill(pid, "SIGCONT");
    const steps = metricsOf(run.output).length;
    await until("more steps", () => metricsOf(run.output).length > steps + 5);
    run.child.kill("SIGINT");
    expect(await run.exit, run.stderr).toBe(130);
  });

  test("every collective, on two axes at a time", patient, async () => {
    const { stdout, stderr } = await ranksProgram();
    expect(stdout, stderr).toBe("all is right\n");
  });

  test.each([
    [
      "other call",
      /rank (2|3) on \S+ calls (barrier|all_gather of 64) where rank (2|3) on \S+ calls .* \(call 2\)/,
    ],
    ["other bytes", /rank (2|3).*(another rank sends more|calls all_gather of \d+ where rank)/],
    [
      "other type",
      /calls all_reduce of 16 where .* calls all_reduce of 16.* \(call 2\); all ranks must make/,
    ],
  ])("ranks that disagree: %s", patient, async (how, message) => {
    const { status, stderr } = await ranksProgram(how);
    expect(status).not.toBe(0);
    expect(stderr).toMatch(message);
  });
});

/** Runs mpi_ranks.cc on four ranks. */
async function ranksProgram(...args: readonly string[]) {
  const found = mpi as Mpi;
  const [program = ""] = await buildExecutables([
    {
      name: "mpi_ranks",
      units: [{ path: path("./mpi_ranks.cc"), flags: runtimeFlags, includeDirs }, ...(await mpiUnits(found))],
      linkFlags: found.linkFlags,
    },
  ]);
  const mpirun = mpirunArguments({ ranks: 4, hosts: null, args: [] });
  const child = spawn("mpirun", [...mpirun, program, ...args]);
  // mpirun may wait for ever for ranks that aborted together.
  const abandoned = endIfAbandoned(child);
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const [status] = (await once(child, "close")) as [number | null];
  abandoned.stop();
  return { status, stdout, stderr };
}
