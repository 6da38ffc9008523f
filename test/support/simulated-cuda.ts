/**
 * @file Programs for CUDA on this machine: kernels on fibers, streams as queues that are drained in an order that is
 * drawn, plain loops in place of NVIDIA's libraries (test/cuda/device, test/cuda/shim). Everything else is as on a GPU.
 */
import { join } from "node:path";
import type { BuildTarget, Unit } from "../../src/codegen/targets.ts";
import {
  generatedFlags,
  includeDirs,
  linkFlags,
  packageRoot,
  runtimeFlags,
  runtimeRoot,
} from "../../src/codegen/toolchain.ts";

const [device, shim] = ["device", "shim"].map((name) => join(packageRoot, "test/cuda", name)) as [
  string,
  string,
];
const folders = [shim, device, ...includeDirs, join(runtimeRoot, "src")];

/**
 * Kernels are compiled as for their own tests, so that one object serves both. -O1: fibers spend their time in switches,
 * and there is much to compile. `#pragma unroll` is nvcc's.
 */
export const fiberFlags: readonly string[] = [
  ...["-std=c++20", "-O1", "-fPIC", "-fopenmp"],
  ...["-Wall", "-Wextra", "-Wpedantic", "-Wno-unknown-pragmas", "-x", "c++"],
];

function unit(path: string, flags: readonly string[], includes: readonly string[]): Unit {
  const isKernel = path.endsWith(".cu") || path.startsWith(shim);
  return { path, flags: isKernel ? fiberFlags : flags, includeDirs: includes };
}

export const simulatedCuda: BuildTarget = {
  folders: ["src/cuda", "kernels/cuda", shim, device],
  without: ["attention_cudnn", "attention_graphs", "dnn_graph", "libraries", "matmul"].map(
    (name) => `kernels/cuda/${name}.cc`,
  ),
  runtimeUnit: (path) => unit(path, runtimeFlags, folders),
  generatedUnit: (path, folder) => unit(path, generatedFlags, [folder, ...folders]),
  linkFlags,
};
