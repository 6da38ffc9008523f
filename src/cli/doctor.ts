/** @file `ithaca doctor`: what this machine has, what is missing, and the command that gets it. */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { Command } from "commander";
import { createColors } from "picocolors";
import { cacheDir } from "../cache.ts";
import { findCuda, missing, type wanted } from "../codegen/cuda/toolchain.ts";
import {
  findMpi,
  findToolchain,
  hasNeededHeader,
  installCommand,
  mpiPackages,
  neededHeader,
  readCpuFlags,
  runProcess,
} from "../codegen/toolchain.ts";
import { UserError } from "../ir/error.ts";
import { type Exit, print, printJson } from "./output.ts";

interface Check {
  readonly name: string;
  /** What was found; null if it is missing. */
  readonly found: string | null;
  /** Whether the CPU target can't do without. */
  readonly needed: boolean;
  /** What it is for, or what to do about it. */
  readonly remark?: string;
}

export function doctorCommand(exit: Exit): Command {
  return new Command("doctor")
    .description("say what this machine has, what is missing and how to get it")
    .option("--json", "print one JSON object", false)
    .action(async ({ json }: { json: boolean }) => {
      const checks = await examine();
      const ok = checks.every(({ found, needed }) => found !== null || !needed);
      exit(ok ? 0 : 1);
      if (json) printJson({ ok, checks });
      else print([...checks.map(line), "", verdict(checks)].join("\n"));
    });
}

function line({ name, found, needed, remark }: Check): string {
  const colors = createColors(process.stdout.isTTY === true);
  const mark = found !== null ? colors.green("✓") : needed ? colors.red("✗") : colors.yellow("-");
  return `${mark} ${name.padEnd(18)} ${found ?? "not found"}${remark ? `  (${remark})` : ""}`;
}

function verdict(checks: readonly Check[]): string {
  const missing = checks.filter(({ found, needed }) => needed && found === null);
  if (missing.length === 0) return "The CPU target has all it needs.";
  return `The CPU target lacks ${missing.map(({ name }) => name).join(", ")}.`;
}

async function examine(): Promise<Check[]> {
  const [npm, compiler, mpi, cuda] = await Promise.all([
    firstLine("npm", "--version"),
    examineCompiler(),
    examineMpi(),
    examineCuda(),
  ]);
  return [
    examineNode(),
    { name: "npm", found: npm, needed: false, ...(npm === null && { remark: installCommand("npm") }) },
    ...compiler,
    ...examineMachine(),
    { name: "cache", found: cacheDir(), needed: false },
    mpi,
    ...cuda,
  ];
}

function examineNode(): Check {
  const oldest = 20;
  const isNew = Number(process.versions.node.split(".")[0]) >= oldest;
  return {
    name: "node",
    found: isNew ? process.versions.node : null,
    needed: true,
    ...(!isNew && {
      remark: `${process.versions.node} is too old: install ${oldest} or later from nodejs.org`,
    }),
  };
}

async function examineCompiler(): Promise<Check[]> {
  const needed = true;
  try {
    const toolchain = await findToolchain();
    const isThere = await hasNeededHeader(toolchain);
    const { header, apt, what } = neededHeader;
    const remark = isThere ? what : `${what}: ${installCommand(apt)}`;
    return [
      { name: "C++ compiler", found: toolchain.version, needed },
      { name: apt, found: isThere ? `<${header}>` : null, needed, remark },
    ];
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [{ name: "C++ compiler", found: null, needed, remark: installCommand("g++", neededHeader.apt) }];
  }
}

function examineMachine(): Check[] {
  const flags = new Set(readCpuFlags().split(" "));
  const features = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "sve", "bf16"].filter((flag) =>
    flags.has(flag),
  );
  const bf16 = flags.has("avx512_bf16") || flags.has("amx_bf16");
  const model = cpus()[0]?.model.trim() || process.arch;
  return [
    { name: "processor", found: `${model}, ${availableParallelism()} cores`, needed: false },
    {
      name: "CPU features",
      found: features.join(" ") || "none of those that help",
      needed: false,
      remark: bf16 ? "bf16 in hardware" : "no bf16 in hardware: precision: bf16 saves memory, not time",
    },
    { name: "memory", found: `${gib(totalmem())} GiB, ${gib(availableMemory())} free`, needed: false },
  ];
}

async function examineMpi(): Promise<Check> {
  const mpi = await findMpi();
  const what = "for ranks that are processes, parallel.comm: mpi";
  const remark = mpi ? what : `${what}: ${installCommand(...mpiPackages)}`;
  return { name: "Open MPI", found: mpi?.version ?? null, needed: false, remark };
}

/** What the CUDA target is built with, where it was found, and the GPUs that would run it. */
async function examineCuda(): Promise<Check[]> {
  const cuda = await findCuda();
  const needed = false;
  const toolkit = "for target: cuda";
  if (!cuda) {
    const remark = `${toolkit}: install the CUDA toolkit 12.8 or later, or set CUDA_HOME`;
    return [{ name: "CUDA toolkit", found: null, needed, remark }];
  }
  const library = (title: string, name: keyof typeof wanted, what: string): Check => {
    const place = cuda[name];
    const remark = place ? `${what}; ${place.file}` : `${what}: ${missing([name]).remedy}`;
    return { name: title, found: place?.version ?? null, needed, remark };
  };
  const gpus = await runProcess("nvidia-smi", [
    "--query-gpu=name,memory.total",
    "--format=csv,noheader",
  ]).catch(() => undefined);
  const names = gpus?.code === 0 ? gpus.stdout.trim().split("\n").join("; ") : "";
  return [
    { name: "CUDA toolkit", found: cuda.version, needed, remark: `${toolkit}; ${cuda.home}` },
    library("cuBLASLt", "cublasLt", "matrix products"),
    library("cuDNN", "cudnn", "attention in bf16"),
    library("NCCL", "nccl", "ranks on several GPUs"),
    {
      name: "GPU",
      found: names === "" ? null : names,
      needed,
      ...(names === "" && { remark: "programs for CUDA can be compiled here, not run" }),
    },
  ];
}

async function firstLine(command: string, ...args: string[]): Promise<string | null> {
  const result = await runProcess(command, args).catch(() => undefined);
  return result?.code === 0 ? (result.stdout.trim().split("\n")[0] ?? null) : null;
}

function availableMemory(): number {
  const file = "/proc/meminfo";
  const match = existsSync(file) ? /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync(file, "utf8")) : null;
  return match ? Number(match[1]) * 1024 : totalmem();
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
