/**
 * @file Ranks that NCCL connects, as processes with simulated devices and a simulated NCCL between them (test/cuda/device):
 * the CPU's numbers, the bytes of the plan, and an end with a name whatever ends one of them.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Plan, totalBytesSent } from "../../src/ir/plan.ts";
import { expectClose, prepare, type Settings } from "../support/simulated-run.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-nccl-"));
const meetings = mkdtempSync(join(scratch, "tmp-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
beforeEach(() => {
  vi.stubEnv("TMPDIR", meetings);
});
afterEach(() => vi.unstubAllEnvs());

const everything = {
  parallel: { sequence: 3 },
  sequence_length: 50,
  max_steps: 2,
  gradient_accumulation_steps: 2,
  memory: { tiled_loss: 3, activation_checkpointing: "layer", activation_offload: "host" },
};

const few = { sequence_length: 16, max_steps: 2, parallel: { sequence: 2, data: 2 } };

const overNccl = (settings: Settings): Settings => ({
  ...settings,
  parallel: { ...(settings.parallel as object), comm: "nccl" },
});

describe("by NCCL", () => {
  test.each([
    ["a sequence shared by two ranks", { parallel: { sequence: 2 } }, 1e-5],
    ["two replicas, each shared by two ranks", { parallel: { sequence: 2, data: 2 } }, 1e-5],
    ["three ranks, tiles, recomputed layers, offload and accumulation", everything, 1e-5],
    ["bf16 with all of these", { ...everything, precision: "bf16" }, 1e-3],
  ] as [string, Settings, number][])(
    "%s: the CPU's losses and norms",
    { timeout: 600_000 },
    async (_, settings, distance) => {
      // Where NCCL_COMM_ID says where the ranks meet, it is not for NCCL.
      vi.stubEnv("NCCL_COMM_ID", "127.0.0.1:1");
      const program = await prepare(scratch, "cuda", overNccl(settings));
      const ours = await program.run();
      const expected = await (await prepare(scratch, "cpu", settings)).run();
      expectClose(ours.losses, expected.losses, distance);
      expectClose(ours.norms, expected.norms, 10 * distance);
      for (const { bytes_sent } of program.metrics()) {
        expect(bytes_sent).toBe(totalBytesSent(program.compiled.plan as Plan));
      }
      expect(readdirSync(meetings)).toEqual([]);
    },
  );
});

describe("a rank takes the GPU of its number on the machine", { timeout: 600_000 }, () => {
  /** GPUs that each of four ranks has taken. */
  async function gpusOf(environment: Readonly<Record<string, string>>): Promise<string[][]> {
    const program = await prepare(scratch, "cuda", overNccl({ ...few, max_steps: 1 }));
    const log = join(scratch, "gpus.log");
    vi.stubEnv("ITHACA_SIMULATED_LOG", log);
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    expect(await program.start()).toBe(0);
    return [0, 1, 2, 3].map((rank) => {
      const lines = readFileSync(`${log}-${rank}`, "utf8").split("\n");
      return [...new Set(lines.flatMap((line) => /^- device (\d+)$/.exec(line)?.[1] ?? []))];
    });
  }

  test("whatever a batch script has set", async () => {
    const batch = { SLURM_PROCID: "0", SLURM_LOCALID: "0", OMPI_COMM_WORLD_LOCAL_RANK: "0" };
    const gpus = await gpusOf({ ...batch, ITHACA_SIMULATED_GPUS: "8" });
    expect(gpus).toEqual([["0"], ["1"], ["2"], ["3"]]);
  });

  test("or the one that it sees", async () => {
    expect(await gpusOf({ ITHACA_SIMULATED_GPUS: "1" })).toEqual([["0"], ["0"], ["0"], ["0"]]);
  });
});

describe("a rank that fails ends all, by its name", { timeout: 600_000 }, () => {
  /** Runs with a fault, of the simulated NCCL unless it is another's, and returns what was said. */
  async function said(fault: string, of = "ITHACA_SIMULATED_NCCL"): Promise<string> {
    const program = await prepare(scratch, "cuda", overNccl(few));
    vi.stubEnv(of, fault);
    const writes = vi.spyOn(process.stderr, "write").mockReturnValue(true);
    try {
      expect(await program.start()).not.toBe(0);
      return writes.mock.calls.map(([text]) => String(text)).join("");
    } finally {
      writes.mockRestore();
    }
  }

  test("killed in a collective: NCCL tells the others of some rank, the run of that one", async () => {
    expect(await said("2 kill 5")).toMatch(
      /^ithaca: rank 2 on \S+ is gone: it was killed, .*\nithaca: a rank was killed before the first step, .*\n$/,
    );
  });

  test("one that has no GPU", async () => {
    expect(await said("3", "ITHACA_SIMULATED_GPUS")).toMatch(
      /^ithaca: rank 3 on \S+: this is process 3 of its machine, counted from 0, and CUDA sees 3 GPUs here; start at most one /,
    );
  });

  test("an error that NCCL reports while the step is waited for", async () => {
    expect(await said("3 error 40")).toMatch(
      /^ithaca: rank 3, lane compute, step \d+ \(.*\): NCCL says that a collective failed: unhandled system error\n$/,
    );
  });
});
