/** @file The CUDA kernel of every op on a GPU against its reference evaluation, and kernels of ops of one's own. */
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { checkOps } from "../../src/check-op.ts";
import { kernels } from "../../src/codegen/cuda/kernels.ts";
import { describeKernels } from "../support/kernel-agreement.ts";

describeKernels("cuda", kernels);

test("ops of one's own", async () => {
  const file = fileURLToPath(new URL("../extend/fixtures/center.ts", import.meta.url));
  const findings = await checkOps(file, "cuda");
  expect(findings.filter(({ wrong }) => wrong !== null)).toEqual([]);
});
