/** @file The variables of mpirun, srun and torchrun: which job they tell of, and which runs it can be. */
import { describe, expect, test } from "vitest";
import type { TargetName } from "../../src/codegen/targets.ts";
import { outerJob, requireFitting } from "../../src/launch/outer-job.ts";

const mpirun = { OMPI_COMM_WORLD_RANK: "1", OMPI_COMM_WORLD_SIZE: "4", OMPI_COMM_WORLD_LOCAL_SIZE: "2" };
const srun = { SLURM_PROCID: "3", SLURM_STEP_NUM_TASKS: "4", SLURM_STEP_TASKS_PER_NODE: "4" };
const torchrun = {
  RANK: "2",
  WORLD_SIZE: "4",
  LOCAL_WORLD_SIZE: "4",
  MASTER_ADDR: "127.0.0.1",
  MASTER_PORT: "1",
};

describe("a job is found", () => {
  test.each([
    [mpirun, { launcher: "mpirun", rank: 1, ranks: 4, isOneMachine: false }],
    [srun, { launcher: "srun", rank: 3, ranks: 4, isOneMachine: true }],
    [torchrun, { launcher: "torchrun", rank: 2, ranks: 4, isOneMachine: true }],
    [
      { ...torchrun, ...srun, ...mpirun },
      { launcher: "mpirun", rank: 1, ranks: 4, isOneMachine: false },
    ],
    [
      { ...torchrun, LOCAL_WORLD_SIZE: "2" },
      { launcher: "torchrun", rank: 2, ranks: 4, isOneMachine: false },
    ],
  ])("in %j", (environment, expected) => {
    expect(outerJob(environment)).toEqual(expected);
  });

  test.each([
    [{}],
    // A batch script has these, and no step yet.
    [{ SLURM_PROCID: "0", SLURM_NTASKS: "4", SLURM_JOB_ID: "7" }],
    [{ RANK: "0", WORLD_SIZE: "1", LOCAL_WORLD_SIZE: "1" }],
    [{ RANK: "gold", WORLD_SIZE: "4" }],
    [{ RANK: "2" }],
  ])("but not in %j", (environment) => {
    expect(outerJob(environment)).toBeNull();
  });
});

describe("a job fits a run", () => {
  const parallel = {
    sequence: 2,
    data: 2,
    zero_stage: 0,
    comm: "mpi",
    hosts: null,
    timeout: 30,
    launcher_args: [],
  } as const;
  const check = (environment: Record<string, string>, changes: Record<string, unknown> = {}) => {
    const job = outerJob(environment);
    if (!job) throw new Error("there is no job");
    const { target = "cpu", ...others } = changes;
    requireFitting(job, { target: target as TargetName, parallel: { ...parallel, ...others } });
  };

  test("of as many ranks", () => {
    for (const environment of [mpirun, srun, torchrun]) check(environment);
    check(torchrun, { comm: "local" });
    for (const environment of [mpirun, srun, { ...torchrun, LOCAL_WORLD_SIZE: "2" }])
      check(environment, { comm: "nccl", target: "cuda" });
  });

  test.each([
    [
      mpirun,
      { comm: "local" },
      /process 1 of 4 that mpirun has started, .* all ranks are threads of one process/,
    ],
    [srun, { comm: "local", target: "cuda" }, /process 3 of 4 that srun has started/],
    [
      { ...torchrun, LOCAL_WORLD_SIZE: "2" },
      { comm: "local", target: "cuda" },
      /torchrun has started processes on several machines, and with parallel\.comm: local/,
    ],
    [srun, { data: 1 }, /srun has started 4 processes, and the run has 2 ranks/],
    [mpirun, { hosts: ["a:4"] }, /parallel\.hosts says where the ranks run, and so has mpirun/],
    [{ ...torchrun, LOCAL_WORLD_SIZE: "2" }, {}, /torchrun has started processes on several machines/],
  ])("%j is not %j's", (environment, changes, message) => {
    expect(() => check(environment, changes)).toThrow(message);
  });
});
