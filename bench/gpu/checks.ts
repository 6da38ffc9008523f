/** @file The programs that check kernels and libraries on a GPU, the tests that need one, and compute-sanitizer. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildExecutables, buildProgram, type Executable } from "../../src/codegen/build.ts";
import { architectures, type Cuda } from "../../src/codegen/cuda/toolchain.ts";
import { type BuildTarget, buildTarget, loader, nvccFlags, type Unit } from "../../src/codegen/targets.ts";
import { includeDirs, packageRoot, runProcess, runtimeRoot } from "../../src/codegen/toolchain.ts";
import { compileConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { prepareData } from "../../src/data/prepare.ts";
import { runFile, vocabularySize } from "../../src/launch/run-file.ts";
import type { Budget, Finding } from "./clock.ts";

const kernels = join(runtimeRoot, "kernels/cuda");
const sources = (folder: string, extension: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith(extension))
    .map((name) => join(folder, name));

/** The kernels' checks, the measurement of their speed, and the check of NVIDIA's libraries, in this order. */
export async function buildChecks(cuda: Cuda): Promise<string[]> {
  const flags = nvccFlags(await architectures());
  const folders = [...includeDirs, runtimeRoot];
  const unit = (path: string): Unit => ({
    path,
    flags: path.endsWith(".cc") ? ["-x", "cu", ...flags] : flags,
    includeDirs: folders,
    with: cuda.version,
    compiler: cuda.nvcc,
  });
  const target = await buildTarget("cuda");
  const tests = join(packageRoot, "test/cuda");
  // The objects of every program.
  const own = sources(kernels, ".cu").map(target.runtimeUnit);
  // The fibers' own test is of what stands in for a GPU.
  const checks = sources(join(tests, "kernels"), ".cc").filter((path) => !path.endsWith("/shim.cc"));
  const linkFlags = [cuda.runtime.file, "-lrt"];
  const beside: Executable[] = [
    {
      name: "gpu_kernels",
      units: [...checks.map(unit), target.runtimeUnit(join(tests, "gpu/memory.cc")), ...own],
      linkFlags,
    },
    { name: "gpu_measure", units: [unit(join(tests, "gpu/measure.cu")), ...own], linkFlags },
  ];
  const libraries = { name: "gpu_libraries", units: [target.runtimeUnit(join(tests, "gpu_libraries.cc"))] };
  const cpu: BuildTarget = { ...loader, folders: ["kernels/cpu"] };
  const paths = await buildExecutables(beside, console.error, cpu);
  return [...paths, ...(await buildExecutables([libraries], console.error, "cuda"))];
}

/** Runs a program to its end: passed if it ends with 0, with the last lines of what it wrote. */
export async function runProgram(
  budget: Budget,
  seconds: number,
  command: string,
  args: readonly string[] = [],
  lines = 1,
): Promise<Finding> {
  const limit = Math.min(seconds, budget.left());
  const begin = performance.now();
  const options = { cwd: packageRoot, timeout: 1000 * limit };
  const { code, stdout, stderr } = await runProcess(command, args, options);
  const said = (code === 0 ? stdout : `${stdout}\n${stderr}`).trim().split("\n");
  const kept = said.slice(code === 0 ? -lines : -20).join("\n");
  const isLate = performance.now() - begin >= 1000 * limit;
  const end = isLate ? `took longer than ${limit.toFixed(0)} s` : `exit code ${code}`;
  return {
    outcome: code === 0 ? "passed" : "failed",
    detail: code === 0 ? kept : `${end}\n${kept}`,
  };
}

/** The counts of a JSON report of vitest, with the names of what failed. */
export function vitestFinding(json: string): Finding {
  const { numPassedTests: passed, numFailedTests: failed, success, testResults } = JSON.parse(json);
  const names = (testResults as { assertionResults: { status: string; fullName: string }[] }[])
    .flatMap(({ assertionResults }) => assertionResults)
    .filter(({ status }) => status === "failed")
    .map(({ fullName }) => fullName);
  const isGood = success === true && failed === 0 && passed > 0;
  return {
    outcome: isGood ? "passed" : "failed",
    detail: [`${passed} passed, ${failed} failed`, ...names.slice(0, 10)].join("\n"),
  };
}

/** Every op against its reference evaluation, and the goldens: vitest.gpu.config.ts. */
export async function gpuTests(budget: Budget, seconds: number, folder: string): Promise<Finding> {
  const file = join(folder, "vitest.json");
  const args = ["run", "-c", "vitest.gpu.config.ts", "--reporter=json", `--outputFile=${file}`];
  const ran = await runProgram(budget, seconds, join(packageRoot, "node_modules/.bin/vitest"), args);
  try {
    return vitestFinding(readFileSync(file, "utf8"));
  } catch {
    return { outcome: "failed", detail: ran.detail };
  }
}

/** A short run of a small Llama, ready to be started: the binary and its arguments. */
export async function shortRun(folder: string, target: "cpu" | "cuda"): Promise<[string, string[]]> {
  const goldens = join(packageRoot, "test/golden");
  const output = join(folder, "short");
  mkdirSync(output, { recursive: true });
  const values = {
    ...{ model: join(goldens, "llama/model"), data: join(goldens, "tokens.bin"), output_dir: output },
    ...{ sequence_length: 256, max_steps: 2, learning_rate: 1e-3, target, threads: 1, precision: "bf16" },
    memory: { tiled_loss: 3, activation_checkpointing: "layer", activation_offload: "host" },
  };
  const config = parseConfig(JSON.stringify(values), join(output, "config.yaml"));
  const compiled = await compileConfig(config);
  const build = join(output, "build");
  const { train } = await buildProgram(compiled.sources, build, target, console.error);
  const data = await prepareData(config, vocabularySize(compiled.model));
  const file = join(build, "run.json");
  writeFileSync(file, JSON.stringify(await runFile(config, compiled.model, data, build)));
  return [train, ["--run", file]];
}

/** The short run under compute-sanitizer's memcheck. */
export async function sanitize(
  budget: Budget,
  seconds: number,
  folder: string,
  cuda: Cuda,
): Promise<Finding> {
  let sanitizer: string | undefined;
  for (const place of [join(cuda.home, "bin/compute-sanitizer"), "compute-sanitizer"]) {
    const said = await runProcess(place, ["--version"]).catch(() => ({ code: 1 }));
    if (said.code === 0) sanitizer ??= place;
  }
  if (sanitizer === undefined) {
    const detail = `compute-sanitizer is neither in ${cuda.home}/bin nor in PATH: it comes with the CUDA toolkit`;
    return { outcome: "not run", detail };
  }
  const [train, args] = await shortRun(folder, "cuda");
  const options = ["--tool", "memcheck", "--error-exitcode", "9"];
  return await runProgram(budget, seconds, sanitizer, [...options, train, ...args]);
}
