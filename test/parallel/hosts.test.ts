/** @file Ranks on several hosts, and in jobs that another launcher has started: the numbers of one machine. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { findMpi, installCommand, mpiPackages } from "../../src/codegen/toolchain.ts";
import { mpirunArguments } from "../../src/launch/mpirun.ts";
import { metricsOf, processesOf, startTraining, type Training, until } from "../support/command-line.ts";
import { makeHosts } from "../support/hosts.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-hosts-"));
const mpi = await findMpi();
const hosts = mpi ? makeHosts(scratch) : installCommand(...mpiPackages);
if (typeof hosts === "string") {
  console.log(`skipped: hosts are network namespaces, joined by Open MPI, and there are none here: ${hosts}`);
}
afterAll(() => {
  if (typeof hosts !== "string") hosts.remove();
  rmSync(scratch, { recursive: true, force: true });
});

const patient = { timeout: 120_000 };
const four = { parallel: { sequence: 2, data: 2 } };

async function resultOf(run: Training) {
  expect(await run.exit, run.stderr).toBe(0);
  const weights = readFileSync(join(run.output, "final/model.safetensors"));
  return { losses: metricsOf(run.output).map(({ loss }) => loss), weights };
}

async function expectSame(own: Training, expected: Training): Promise<void> {
  const [one, other] = [await resultOf(own), await resultOf(expected)];
  expect(one.losses).toHaveLength(5);
  expect(one.losses).toEqual(other.losses);
  expect(one.weights.equals(other.weights)).toBe(true);
}

describe.skipIf(typeof hosts === "string")("two hosts", () => {
  const { addresses, agent, on } = hosts as Exclude<typeof hosts, string>;
  const parallel = {
    ...four.parallel,
    comm: "mpi",
    hosts: addresses.map((address) => `${address}:2`),
    launcher_args: ["--mca", "plm_rsh_agent", agent],
  };

  test("give the bits of one machine", patient, async () => {
    const local = startTraining(scratch, "local", four);
    await local.exit;
    await expectSame(startTraining(scratch, "both", { parallel }, on), local);
  });

  test(
    "a rank that is killed on the other host ends the run, and is named with its host",
    patient,
    async () => {
      const run = startTraining(scratch, "killed", { parallel, max_steps: 1_000_000 }, on);
      await until("a step", () => metricsOf(run.output).length > 3);
      const begin = performance.now();
      const [pid = 0] = processesOf(run.output, 2);
      process.kill(pid, "SIGKILL");
      expect(await run.exit).not.toBe(0);
      expect(performance.now() - begin).toBeLessThan(10_000);
      expect(run.stderr).toMatch(
        /^ithaca: rank 2 on 10\.77\.0\.2 was killed, .*; the other ranks were stopped after step \d+\n$/m,
      );
      expect(processesOf(run.output)).toEqual([]);
    },
  );

  test("a host that can't be reached is named", patient, async () => {
    const unknown = { ...parallel, hosts: ["10.77.0.1:2", "10.77.0.9:2"] };
    const run = startTraining(scratch, "unreachable", { parallel: unknown }, on);
    expect(await run.exit).not.toBe(0);
    expect(run.stderr).toContain("agent: no route to 10.77.0.9");
    expect(run.stderr).toMatch(
      /^ithaca: mpirun could not start the ranks on 10\.77\.0\.1, 10\.77\.0\.9: this machine must reach each by ssh .*train$/m,
    );
    expect(processesOf(run.output)).toEqual([]);
  });
});

describe.skipIf(!mpi)("in a job of mpirun's", () => {
  const mpirun = (ranks: number) => (command: readonly string[]) => [
    "mpirun",
    ...mpirunArguments({ ranks, hosts: null, args: [] }),
    ...command,
  ];
  const parallel = { ...four.parallel, comm: "mpi" };

  test("each process is a rank, and the first one speaks", patient, async () => {
    const local = startTraining(scratch, "threads", four);
    await local.exit;
    const job = startTraining(scratch, "job", { parallel }, mpirun(4));
    await expectSame(job, local);
    expect(job.stdout.match(/^trained in /gm)).toHaveLength(1);
    expect(job.stdout.match(/^step 5\/5 /gm)).toHaveLength(1);
  });

  test("that does not fit says so once", patient, async () => {
    const run = startTraining(scratch, "three", { parallel }, mpirun(3));
    expect(await run.exit).toBe(1);
    expect(run.stderr.match(/mpirun has started 3 processes, and the run has 4 ranks/g)).toHaveLength(1);
    const threads = startTraining(scratch, "no-mpi", four, mpirun(4));
    expect(await threads.exit).toBe(1);
    expect(threads.stderr).toContain("with parallel.comm: local all ranks are threads of one process");
  });

  test("kill -USR1 of mpirun ends it in order", patient, async () => {
    const run = startTraining(
      scratch,
      "asked",
      { parallel, max_steps: 1_000_000, snapshot_every: 1_000_000 },
      mpirun(4),
    );
    await until("a step", () => metricsOf(run.output).length > 3);
    run.child.kill("SIGUSR1");
    expect(await run.exit).toBe(130);
    expect(run.stderr).toMatch(/^ithaca: interrupted after step \d+; resume from \S+step-\d+$/m);
    expect(processesOf(run.output)).toEqual([]);
  });

  test("a rank that is killed ends all of it", patient, async () => {
    const run = startTraining(scratch, "job-killed", { parallel, max_steps: 1_000_000 }, mpirun(4));
    await until("a step", () => metricsOf(run.output).length > 3);
    const begin = performance.now();
    const [pid = 0] = processesOf(run.output, 3);
    process.kill(pid, "SIGKILL");
    expect(await run.exit).not.toBe(0);
    expect(performance.now() - begin).toBeLessThan(10_000);
    expect(run.stderr).toContain("ithaca: rank 3 was killed, most likely for want of memory");
    expect(processesOf(run.output)).toEqual([]);
  });
});

test("of torchrun's processes the first one runs all ranks", patient, async () => {
  const torchrun = (rank: number) => (command: readonly string[]) => [
    ...["env", `RANK=${rank}`, "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=4", `LOCAL_RANK=${rank}`],
    ...command,
  ];
  const others = [1, 2, 3].map((rank) => startTraining(scratch, `torch-${rank}`, four, torchrun(rank)));
  const first = startTraining(scratch, "torch-0", four, torchrun(0));
  expect((await resultOf(first)).losses).toHaveLength(5);
  for (const other of others) {
    expect(await other.exit, other.stderr).toBe(0);
    expect(other.stdout + other.stderr).toBe("");
    expect(metricsOf(other.output)).toEqual([]);
  }
});
