/** @file The CUDA kernel of every op on a GPU against its reference evaluation, and kernels of ops of one's own. */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { checkOps } from "../../src/check-op.ts";
import { kernels } from "../../src/codegen/cuda/kernels.ts";
import { describeKernels } from "../support/kernel-agreement.ts";

describeKernels("cuda", kernels);

test.each(["../extend/fixtures/center.ts", "../../examples/custom-op/squared_relu.ts"])(
  "%s",
  async (file) => {
    const findings = await checkOps(fileURLToPath(new URL(file, import.meta.url)), "cuda");
    expect(findings.filter(({ wrong }) => wrong !== null)).toEqual([]);
  },
);
