/**
 * @file cuDNN takes every attention that is left to it, on each supported device, and asks for no more memory than the
 * plan reserves. No GPU is needed: devices are descriptions, and the driver is one that finds none.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findCuda } from "../../src/codegen/cuda/toolchain.ts";
import {
  type AttentionSizes,
  cudnnAttentionGradWorkspaceBytes,
  cudnnAttentionWorkspaceBytes,
} from "../../src/codegen/cuda/workspace-libraries.ts";
import { findToolchain, includeDirs, packageRoot, runtimeFlags } from "../../src/codegen/toolchain.ts";

const run = promisify(execFile);
const cuda = await findCuda();
const { cudnn, cublasLt, runtime } = cuda ?? {};
const libraries = cudnn && cublasLt && runtime ? { cudnn, cublasLt, runtime } : undefined;
if (!libraries)
  console.log("skipped: cuDNN's plans need the CUDA toolkit, cuDNN and cuBLASLt, which were not found");

interface Shape extends AttentionSizes {
  readonly causal: boolean;
  readonly window: number;
  readonly packed: boolean;
}

type Mask = Pick<Shape, "causal" | "window" | "packed">;

const causal: Mask = { causal: true, window: 0, packed: false };

const shape = (
  [batch, sequence, heads, kvHeads, headDim]: readonly number[],
  mask: Partial<Mask> = {},
): Shape => ({
  ...{ batch, sequenceQ: sequence, sequenceKv: sequence, heads, kvHeads, headDim },
  ...causal,
  ...mask,
});

// The last two are worked on one key head, and one sample, at a time.
const shapes: readonly Shape[] = [
  shape([2, 4096, 8, 8, 64]),
  shape([1, 8192, 32, 8, 128], { packed: true }),
  shape([1, 8191, 32, 8, 64], { window: 1024 }),
  shape([2, 1000, 8, 2, 128], { window: 100, packed: true }),
  shape([3, 100, 6, 3, 32], { causal: false }),
  shape([1, 1, 4, 2, 64]),
  shape([1, 2 ** 20, 8, 2, 128]),
  shape([2, 2 ** 17, 8, 8, 64], { packed: true }),
];

const argument = (s: Shape): string => {
  const sizes = [s.batch, s.sequenceQ, s.sequenceKv, s.heads, s.kvHeads, s.headDim];
  return [...sizes, Number(s.causal), s.window, Number(s.packed)].join();
};

describe.skipIf(!libraries)("plans of cuDNN", () => {
  let folder: string;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ithaca-plans-"));
    const { compiler } = await findToolchain();
    const { cudnn, cublasLt, runtime } = libraries as NonNullable<typeof libraries>;
    const headers = [runtime.include, cudnn.include, cublasLt.include];
    const kernels = join(packageRoot, "runtime/kernels/cuda");
    execFileSync("gcc", [
      ...["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"],
      ...["-o", join(folder, "libcuda.so.1"), join(packageRoot, "test/cuda/no_device_driver.c")],
    ]);
    await run(compiler, [
      ...runtimeFlags,
      "-O1",
      ...includeDirs.map((path) => `-I${path}`),
      ...headers.flatMap((path) => ["-isystem", path]),
      join(packageRoot, "test/cuda/plans.cc"),
      join(kernels, "attention_graphs.cc"),
      join(kernels, "dnn_graph.cc"),
      ...[cudnn.file, `-Wl,-rpath,${dirname(cudnn.file)}:${dirname(cublasLt.file)}`],
      ...["-o", join(folder, "plans")],
    ]);
  });

  afterAll(() => rmSync(folder, { recursive: true }));

  test.each(["a100", "h100", "h200", "b200"])("for %s", { timeout: 300_000 }, async (device) => {
    const description = join(packageRoot, `test/cuda/devices/${device}.json`);
    const { stdout } = await run(join(folder, "plans"), [description, ...shapes.map(argument)], {
      env: { ...process.env, LD_LIBRARY_PATH: folder },
    });
    const lines = stdout.trim().split("\n");
    expect(lines).toHaveLength(shapes.length);
    for (const [i, line] of lines.entries()) {
      const { forward, backward } = JSON.parse(line) as Record<string, [number, number, number]>;
      const name = `${argument(shapes[i])} on ${device}`;
      expect(forward[1], `forward of ${name}`).toBeGreaterThanOrEqual(forward[0]);
      expect(backward[1], `backward of ${name}`).toBeGreaterThanOrEqual(backward[0]);
      expect(forward[2]).toBe(cudnnAttentionWorkspaceBytes(shapes[i]));
      expect(backward[2]).toBe(cudnnAttentionGradWorkspaceBytes(shapes[i]));
    }
  });
});
