/** @file Workspaces that the planner reserves are those of the kernels' headers. Needs no CUDA: the headers are plain C++. */
import { expect, test } from "vitest";
import * as workspace from "../../src/codegen/cuda/workspace.ts";
import { findToolchain, includeDirs, runProcess } from "../../src/codegen/toolchain.ts";

const shapes = [
  [1, 1],
  [3, 7],
  [2047, 96],
  [2048, 4096],
  [131072, 8192],
] as const;

/** C++ expressions, with what TypeScript makes of the same sizes. */
const expected: readonly (readonly [expression: string, bytes: number])[] = [
  ["sum_squares_workspace_bytes()", workspace.SUM_SQUARES_WORKSPACE_BYTES],
  ...shapes.flatMap(
    ([rows, columns]) =>
      [
        [`row_blocks(${rows})`, workspace.rowBlocks(rows)],
        [`sum_rows_workspace_bytes(${rows}, ${columns})`, workspace.rowSumsWorkspaceBytes(rows, columns)],
        [
          `rms_norm_grad_workspace_bytes(${rows}, ${columns})`,
          workspace.rowSumsWorkspaceBytes(rows, columns),
        ],
        [`cross_entropy_workspace_bytes(${rows})`, workspace.crossEntropyWorkspaceBytes(rows)],
        [
          `plain::attention_grad_workspace_bytes({2, ${rows}, ${rows}, 8, 2, 64, true, 0, 1.0f, 0.0f})`,
          workspace.attentionGradWorkspaceBytes(2, rows, 8),
        ],
      ] as const,
  ),
];

test("formulas in TypeScript are the headers'", async () => {
  const { compiler } = await findToolchain();
  const checks = expected.map(([expression, bytes]) => `static_assert(${expression} == ${bytes});`);
  const input = ['#include "cuda/kernels.h"', "using namespace ithaca::cuda;", ...checks, ""].join("\n");
  const flags = ["-std=c++20", "-fsyntax-only", "-x", "c++", ...includeDirs.map((path) => `-I${path}`), "-"];
  const { code, stderr } = await runProcess(compiler, flags, { input });
  expect(stderr).toBe("");
  expect(code).toBe(0);
});
