/** @file Ranks as processes of an MPI job: the numbers of local ranks bit for bit, and an end when one of them ends. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
import { mpirunArguments } from "../../src/launch/mpirun.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const root = path("../../");
const scratch = mkdtempSync(join(tmpdir(), "ithaca-mpi-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const mpi = await findMpi();
if (!mpi) {
  console.log(
    `skipped: Open MPI isn't installed; with it the ranks of a run can be processes: ${installCommand(...mpiPackages)}`,
  );
}

const patient = { timeout: 120_000 };

/** Starts `ithaca train` on the golden Llama in a folder of its own. */
function start(name: string, changes: Readonly<Record<string, string | number>>) {
  const output = join(scratch, name);
  const file = join(scratch, `${name}.yaml`);
  const config = {
    model: path("../golden/llama/model"),
    data: path("../golden/tokens.bin"),
    output_dir: output,
    sequence_length: 770,
    max_steps: 5,
    learning_rate: 1e-3,
    // Adam divides gradients near zero by ones as small, and so makes their rounding large. This keeps it small.
    adam_epsilon: 1e-5,
    threads: 1,
  };
  writeFileSync(file, JSON.stringify(config));
  const settings = Object.entries(changes).flatMap(([key, value]) => ["--set", `${key}=${value}`]);
  const args = ["--import", "tsx", join(root, "src/cli/main.ts"), "train", file, ...settings];
  const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "ignore", "pipe"] });
  const run = { child, output, stderr: "", exit: Promise.resolve(0) };
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    run.stderr += text;
  });
  run.exit = new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? -1));
  });
  return run;
}

interface Result {
  readonly losses: readonly number[];
  readonly weights: Buffer;
  readonly file: string;
}

async function trained(name: string, changes: Readonly<Record<string, string | number>>): Promise<Result> {
  const run = start(name, changes);
  expect(await run.exit, run.stderr).toBe(0);
  const file = join(run.output, "final/model.safetensors");
  return { losses: metrics(run.output).map(({ loss }) => loss), weights: readFileSync(file), file };
}

function metrics(output: string): { step: number; loss: number }[] {
  try {
    const text = readFileSync(join(output, "metrics.jsonl"), "utf8");
    return text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
  } catch {
    return [];
  }
}

async function until<T>(what: string, find: () => T | undefined): Promise<T> {
  const begin = Date.now();
  while (Date.now() - begin < 60_000) {
    const found = find();
    if (found !== undefined) return found;
    await sleep(20);
  }
  throw new Error(`${what} did not come`);
}

/** The process of one rank of the job that runs in `output`. */
function processOf(output: string, rank: number): number | undefined {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const [command] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (command !== join(output, "build/train")) continue;
      const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
      if (environment.includes(`OMPI_COMM_WORLD_RANK=${rank}`)) return Number(pid);
    } catch {
      // It ended meanwhile, or is another user's.
    }
  }
  return undefined;
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
    ["sp 2", { "parallel.sequence": 2 }, {}],
    ["sp 2 x dp 2", { "parallel.sequence": 2, "parallel.data": 2 }, { micro_batch_size: 2 }],
  ])("%s: local's numbers bit for bit, and one rank's", patient, async (name, degrees, single) => {
    const [one, local, processes] = [
      await trained(`one ${name}`, single),
      await trained(`local ${name}`, degrees),
      await trained(`mpi ${name}`, { ...degrees, "parallel.comm": "mpi" }),
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
    const run = start("world", { "parallel.sequence": 2, "parallel.comm": "mpi", max_steps: 1 });
    expect(await run.exit, run.stderr).toBe(0);
    const binary = [join(run.output, "build/train"), "--run", join(run.output, "build/run.json")];
    const three = spawnSync("mpirun", [...mpirunArguments(3), ...binary], { encoding: "utf8" });
    expect(three.status).toBe(1);
    expect(three.stderr).toContain(
      "ithaca: the program was compiled for 2 ranks, MPI started 3; start it with mpirun -np 2, or compile it again\n",
    );
  });

  test("a rank that is killed ends the run and is named", patient, async () => {
    const run = start("killed", { "parallel.sequence": 2, "parallel.comm": "mpi", max_steps: 1_000_000 });
    await until("a step", () => (metrics(run.output).length > 3 ? true : undefined));
    const begin = performance.now();
    process.kill(await until("rank 1", () => processOf(run.output, 1)), "SIGKILL");
    expect(await run.exit).not.toBe(0);
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(run.stderr).toMatch(/^ithaca: rank 1 on \S+ was killed, .*; the other ranks were stopped\n$/m);
    expect(processOf(run.output, 0)).toBeUndefined();
  });

  test("Ctrl-C ends a run in order", patient, async () => {
    const changes = { "parallel.comm": "mpi", max_steps: 1_000_000, snapshot_every: 1_000_000 };
    const run = start("interrupted", { ...changes, "parallel.sequence": 2 });
    await until("a step", () => (metrics(run.output).length > 3 ? true : undefined));
    run.child.kill("SIGINT");
    expect(await run.exit).toBe(130);
    expect(run.stderr).toMatch(/^ithaca: interrupted after step \d+; resume from \S+step-\d+\n$/m);
  });

  test("what goes wrong on every rank is said once", patient, async () => {
    const changes = { "parallel.comm": "mpi", learning_rate: 1e38, max_steps: 20 };
    const run = start("infinite", { ...changes, "parallel.sequence": 2 });
    expect(await run.exit).toBe(1);
    expect(run.stderr.match(/ithaca: .*(NaN|infinite)/g)).toHaveLength(1);
    expect(run.stderr).not.toContain("mpirun");
  });

  test("every collective, on two axes at a time", patient, async () => {
    const found = mpi as Mpi;
    const [program = ""] = await buildExecutables([
      {
        name: "mpi_ranks",
        units: [
          { path: path("./mpi_ranks.cc"), flags: runtimeFlags, includeDirs },
          ...(await mpiUnits(found)),
        ],
        linkFlags: found.linkFlags,
      },
    ]);
    const { stdout, stderr } = spawnSync("mpirun", [...mpirunArguments(4), program], { encoding: "utf8" });
    expect(stdout, stderr).toBe("all is right\n");
  });
});
