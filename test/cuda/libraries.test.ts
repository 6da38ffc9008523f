/**
 * @file What Ithaca asks of cuBLASLt and cuDNN means the products and attentions of the CPU's kernels, and touches only
 * the memory, the workspace and the stream that it was given. Stand-ins answer the calls: they need NVIDIA's headers.
 */
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { buildExecutables } from "../../src/codegen/build.ts";
import { findCuda } from "../../src/codegen/cuda/toolchain.ts";
import type { Unit } from "../../src/codegen/targets.ts";
import { includeDirs, packageRoot, runtimeFlags, runtimeRoot } from "../../src/codegen/toolchain.ts";
import { fiberFlags } from "../support/simulated-cuda.ts";

const cuda = await findCuda();
const headers = [cuda?.runtime, cuda?.cudnn, cuda?.cublasLt];
const isMissing = headers.some((found) => found === undefined);
if (isMissing) console.log("skipped: calls of libraries need CUDA's, cuDNN's and cuBLASLt's headers");

const kernels = join(runtimeRoot, "kernels/cuda");
const folders = [...includeDirs, runtimeRoot];

/** Sees NVIDIA's headers, and gives a gradient parts of two key heads where the test has four. */
function withHeaders(path: string): Unit {
  const isystem = headers.flatMap((found) => (found ? ["-isystem", found.include] : []));
  const flags = [...runtimeFlags, "-DITHACA_ATTENTION_PART_BYTES=1300000", ...isystem];
  return { path, flags, includeDirs: folders, with: `${cuda?.version} ${cuda?.cudnn?.version}` };
}

function onFibers(path: string): Unit {
  const shim = join(packageRoot, "test/cuda/shim");
  return { path, flags: fiberFlags, includeDirs: [shim, ...folders] };
}

function sources(folder: string): string[] {
  const path = join(packageRoot, folder);
  return readdirSync(path)
    .filter((name) => name.endsWith(".cc"))
    .map((name) => join(path, name));
}

test.skipIf(isMissing)("products and attention by NVIDIA's libraries", { timeout: 300_000 }, async () => {
  const hosts = ["libraries", "matmul", "attention_cudnn", "attention_graphs", "dnn_graph"];
  const units = [
    ...sources("test/cuda/libraries").map(withHeaders),
    ...hosts.map((name) => withHeaders(join(kernels, `${name}.cc`))),
    ...sources("test/cuda/shim").map(onFibers),
    ...["copy", "documents", "launch"].map((name) => onFibers(join(kernels, `${name}.cu`))),
  ];
  const [program] = await buildExecutables([{ name: "cuda_libraries_test", units }]);
  const { stdout } = spawnSync(program, [], {
    encoding: "utf8",
    env: { ...process.env, OMP_NUM_THREADS: "2" },
  });
  expect(stdout).toMatch(/^\d+ checks, 0 failed\n$/);
});
