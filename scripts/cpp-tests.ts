/** @file Builds and runs the tests of the runtime, test/runtime/ and test/cuda/kernels/; prints a line for each and writes the counts. */
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { buildExecutables, type Executable } from "../src/codegen/build.ts";
import type { Unit } from "../src/codegen/targets.ts";
import { includeDirs, packageRoot, runtimeFlags, runtimeRoot } from "../src/codegen/toolchain.ts";
import { fiberFlags } from "../test/support/simulated-cuda.ts";

const folder = join(packageRoot, "test/runtime");
const testIncludeDirs = [
  ...includeDirs,
  runtimeRoot,
  join(runtimeRoot, "train"),
  join(runtimeRoot, "binding"),
];
const timeoutMs = 300_000;

function unit(path: string, ...flags: string[]): Unit {
  return { path, flags: [...runtimeFlags, ...flags], includeDirs: testIncludeDirs };
}

/**
 * -ffp-contract=off: sums that a test expects to the bit are rounded as they are written. -O1: a test's own code is not
 * what takes its time, and compiles twice as fast; the runtime it is linked with is as in programs.
 */
function exact(path: string): Unit {
  return unit(path, "-ffp-contract=off", "-O1");
}

function sources(path: string, extension = ".cc"): string[] {
  return readdirSync(path)
    .filter((name) => name.endsWith(extension))
    .map((name) => join(path, name));
}

const own = sources(folder);
const support = own.filter((path) => !/_(test|main)\.cc$/.test(path)).map((path) => unit(path));

/** The toy program as a training binary of its own on a mesh of dp x sp ranks. */
function toyTrain(dp: number, sp: number): Executable {
  const main = unit(join(runtimeRoot, "train/main.cc"));
  const toy = unit(join(folder, "toy_main.cc"), `-DTOY_DP=${dp}`, `-DTOY_SP=${sp}`);
  return { name: `toy_train_${dp}x${sp}`, units: [main, toy, ...support] };
}

/** The CUDA kernels on fibers, beside the CPU's: their `.cu` sources, compiled as C++ with a stand-in for CUDA's header. */
function cudaKernels(): Executable {
  const cuda = join(packageRoot, "test/cuda");
  const kernels = join(runtimeRoot, "kernels/cuda");
  const units = [
    ...sources(kernels, ".cu"),
    ...sources(join(cuda, "shim")),
    ...sources(join(cuda, "kernels")),
  ].map((path) => ({
    path,
    flags: fiberFlags,
    includeDirs: [join(cuda, "shim"), ...testIncludeDirs],
  }));
  return { name: "cuda_kernels_test", units };
}

/** Each NAME_test.cc is a program with the other files beside it; the kernels' tests are one program. */
function tests(): Executable[] {
  const programs = own
    .filter((path) => path.endsWith("_test.cc"))
    .map((path) => ({ name: path.slice(folder.length + 1, -3), units: [exact(path), ...support] }));
  const kernels = sources(join(folder, "kernels")).map((path) => unit(path));
  return [...programs, { name: "kernels_test", units: kernels }, cudaKernels()];
}

// A name picks the programs that have it in theirs: `npx tsx scripts/cpp-tests.ts cuda`.
const { values, positionals } = parseArgs({
  options: { output: { type: "string" } },
  allowPositionals: true,
});
const programs = tests().filter(({ name }) => name.includes(positionals[0] ?? ""));
const toys = [toyTrain(1, 1), toyTrain(2, 2)];
const report = (message: string) => process.stderr.write(`${message}\n`);
const paths = await buildExecutables([...programs, ...toys], report);
const toyPaths = paths.slice(programs.length);

let failed = 0;
for (const [i, { name }] of programs.entries()) {
  const begin = performance.now();
  const args = name === "train_test" ? toyPaths : [];
  const result = spawnSync(paths[i] as string, args, {
    encoding: "utf8",
    timeout: timeoutMs,
    cwd: packageRoot,
  });
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  const passed = result.status === 0;
  process.stdout.write(`${passed ? "✓" : "✗"} ${name} (${seconds} s)\n`);
  if (passed) continue;
  failed += 1;
  const end =
    result.error?.message ?? (result.signal === null ? `exit code ${result.status}` : result.signal);
  process.stdout.write(`${result.stdout}${result.stderr}${name}: ${end}\n`);
}
if (values.output) writeFileSync(values.output, JSON.stringify({ passed: programs.length - failed, failed }));
process.exitCode = failed === 0 ? 0 : 1;
