/**
 * @file The job that another launcher has started this process in, as its variables say: mpirun's and srun's processes are
 * the ranks of the run, of torchrun's too with NCCL, else the first one runs them all.
 */
import type { Config } from "../config/load.ts";
import { UserError } from "../ir/error.ts";

export interface OuterJob {
  readonly launcher: "mpirun" | "srun" | "torchrun";
  /** This process among those of the job. */
  readonly rank: number;
  /** Processes of the job. */
  readonly ranks: number;
  readonly isOneMachine: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Null where no launcher has started this process, or one has started nothing else. */
export function outerJob(environment: Environment = process.env): OuterJob | null {
  const read = (launcher: OuterJob["launcher"], rank: string, ranks: string, ranksHere: string) => {
    const numbers = [rank, ranks, ranksHere].map((name) => environment[name]);
    if (!/^\d+$/.test(numbers[0] ?? "") || !/^\d+$/.test(numbers[1] ?? "")) return null;
    const job = { launcher, rank: Number(numbers[0]), ranks: Number(numbers[1]) };
    return { ...job, isOneMachine: numbers[1] === numbers[2] };
  };
  // In this order: mpirun may run inside a job of srun's, either inside a container that has torchrun's variables. In a
  // batch script SLURM_PROCID is set too, but not what tells of a step's tasks.
  const job =
    read("mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE") ??
    read("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE") ??
    read("torchrun", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE");
  return job === null || job.ranks === 1 ? null : job;
}

/** Throws UserError unless the processes of the job can run what is configured. */
export function requireFitting(
  job: OuterJob,
  { parallel, target }: Pick<Config, "parallel" | "target">,
): void {
  const { launcher, rank, ranks } = job;
  const wanted = parallel.sequence * parallel.data;
  if (launcher !== "torchrun" && parallel.comm === "local") {
    throw new UserError(
      `this is process ${rank} of ${ranks} that ${launcher} has started, and with parallel.comm: ${parallel.comm} all ranks are threads of one process`,
      {
        remedy: `Set parallel.comm: ${target === "cuda" ? "nccl" : "mpi"}, or start it without ${launcher}.`,
      },
    );
  }
  if (ranks !== wanted) {
    throw new UserError(
      `${launcher} has started ${ranks} processes, and the run has ${wanted} ranks (parallel.sequence times parallel.data)`,
      { remedy: `Start ${wanted} processes, or change parallel.sequence or parallel.data.` },
    );
  }
  if (parallel.hosts !== null) {
    throw new UserError(`parallel.hosts says where the ranks run, and so has ${launcher}`, {
      remedy: `Leave out parallel.hosts, or start it without ${launcher}.`,
    });
  }
  if (launcher === "torchrun" && !job.isOneMachine && parallel.comm !== "nccl") {
    if (target === "cuda") {
      throw new UserError(
        "torchrun has started processes on several machines, and with parallel.comm: local all ranks are threads of one process",
        { remedy: "Set parallel.comm: nccl." },
      );
    }
    throw new UserError(
      "torchrun has started processes on several machines, which is not enough for Open MPI",
      {
        remedy:
          "Start it once, with parallel.comm: mpi and the machines in parallel.hosts, or with mpirun or srun.",
      },
    );
  }
}
