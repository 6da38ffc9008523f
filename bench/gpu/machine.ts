/** @file The GPU of this machine as nvidia-smi tells it, and what else a measurement depends on. */
import { cpus } from "node:os";
import { findCuda } from "../../src/codegen/cuda/toolchain.ts";
import { type ProcessResult, packageRoot, runProcess } from "../../src/codegen/toolchain.ts";
import { type Machine, machines } from "../../src/plan/machines.ts";

const MiB = 2 ** 20;

export interface Gpu {
  readonly name: string;
  readonly driver: string;
  /** All of its memory, in bytes. */
  readonly bytes: number;
  /** What is in use now, of every process, in bytes. */
  readonly used: number;
  /** GPUs of this machine that may be used. */
  readonly count: number;
}

/** The lines of `nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader,nounits`. */
export function parseGpus(text: string): Gpu | undefined {
  const lines = text.split("\n").filter((line) => line.split(",").length === 4);
  if (lines.length === 0) return undefined;
  const [name, driver, total, used] = lines[0].split(",").map((field) => field.trim());
  const numbers = [total, used].map(Number);
  if (numbers.some(Number.isNaN)) return undefined;
  return { name, driver, bytes: numbers[0] * MiB, used: numbers[1] * MiB, count: lines.length };
}

/** The first GPU that CUDA_VISIBLE_DEVICES leaves; undefined where there is none or no driver. */
export async function findGpu(): Promise<Gpu | undefined> {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  if (visible === "" || visible === "-1") return undefined;
  const fields = "--query-gpu=name,driver_version,memory.total,memory.used";
  const args = [...(visible ? ["-i", visible] : []), fields, "--format=csv,noheader,nounits"];
  const said: ProcessResult | undefined = await runProcess("nvidia-smi", args).catch(() => undefined);
  return said?.code === 0 ? parseGpus(said.stdout) : undefined;
}

/** The data sheet of a GPU, whose name has "h100" where the table says "h100-80gb"; undefined for one not in it. */
export function sheetOf(name: string): Machine | undefined {
  return machines.find((machine) => name.toLowerCase().includes(machine.name.split("-")[0]));
}

/** What a report says about where its numbers come from. */
export async function describeMachine(gpu: Gpu, python: string): Promise<Record<string, string>> {
  const said = async (command: string, ...args: string[]) => {
    const result = await runProcess(command, args, { cwd: packageRoot }).catch(() => undefined);
    return result?.code === 0 ? result.stdout.trim() : "";
  };
  const versions =
    "import torch, transformers; print('PyTorch', torch.__version__ + ', transformers', transformers.__version__)";
  const [commit, changed, torch, cuda] = await Promise.all([
    said("git", "rev-parse", "--short=12", "HEAD"),
    said("git", "status", "--porcelain"),
    said(python, "-c", versions),
    findCuda(),
  ]);
  const libraries = (["cublasLt", "cudnn", "nccl"] as const).flatMap((library) => {
    const version = cuda?.[library]?.version;
    return version ? [`${library} ${version}`] : [];
  });
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
    commit: `${commit || "unknown"}${changed ? " with changes" : ""}`,
    GPU: `${gpu.count > 1 ? `${gpu.count} x ` : ""}${gpu.name}, ${(gpu.bytes / 2 ** 30).toFixed(1)} GiB, driver ${gpu.driver}`,
    CPU: `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} threads`,
    CUDA: [cuda?.version ?? "none", ...libraries].join(", "),
    beside: torch || "no PyTorch",
  };
}
