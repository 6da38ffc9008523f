/** @file What `npm run test:gpu` does without a GPU, and what it makes of what it measured. */
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test, vi } from "vitest";
import { agreement, apart } from "../../bench/gpu/agreement.ts";
import { vitestFinding } from "../../bench/gpu/checks.ts";
import { Budget, runCheck } from "../../bench/gpu/clock.ts";
import { findGpu, parseGpus, sheetOf } from "../../bench/gpu/machine.ts";
import { type Measured, markdown, offPlan, type Report, speedUp } from "../../bench/gpu/report.ts";
import { fastest, longest } from "../../bench/gpu/speed.ts";
import { packageRoot, runProcess } from "../../src/codegen/toolchain.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-gpu-test-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
afterEach(() => vi.unstubAllEnvs());

const GiB = 2 ** 30;

test("without a GPU one line says so, and there is no report", { timeout: 60_000 }, async () => {
  const output = mkdtempSync(join(scratch, "results-"));
  const args = ["--import", "tsx", "scripts/test-gpu.ts", "--output", output];
  const env = { ...process.env, CUDA_VISIBLE_DEVICES: "-1" };
  const { code, stdout } = await runProcess(process.execPath, args, { cwd: packageRoot, env });
  expect(stdout).toBe("no GPU here (nvidia-smi is absent or lists none): nothing was checked or measured\n");
  expect(code).toBe(0);
  expect(readdirSync(output)).toEqual([]);
});

describe("the GPU", () => {
  /** Puts an nvidia-smi in front of all others. */
  function nvidiaSmi(script: string): void {
    const folder = mkdtempSync(join(scratch, "bin-"));
    writeFileSync(join(folder, "nvidia-smi"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, "nvidia-smi"), 0o755);
    vi.stubEnv("PATH", `${folder}:${process.env.PATH}`);
    vi.stubEnv("CUDA_VISIBLE_DEVICES", undefined);
  }

  test("is nvidia-smi's first", async () => {
    nvidiaSmi('echo "NVIDIA H100 80GB HBM3, 580.1, 81559, 4"; echo "NVIDIA H100 80GB HBM3, 580.1, 81559, 9"');
    expect(await findGpu()).toEqual({
      ...{ name: "NVIDIA H100 80GB HBM3", driver: "580.1", count: 2 },
      ...{ bytes: 81559 * 2 ** 20, used: 4 * 2 ** 20 },
    });
  });

  test.each(["echo 'No devices were found'", "exit 9", "echo"])("is none: %s", async (script) => {
    nvidiaSmi(script);
    expect(await findGpu()).toBeUndefined();
  });

  test("is none where memory is not a number", () => {
    expect(parseGpus("NVIDIA GB10, 580.1, [N/A], [N/A]")).toBeUndefined();
  });

  test("has a data sheet if the table knows it", () => {
    expect(sheetOf("NVIDIA H200")?.name).toBe("h200");
    expect(sheetOf("Tesla T4")).toBeUndefined();
  });
});

test("a check that throws has failed, and one that there is no time for is not run", async () => {
  const budget = new Budget(5);
  const fails = await runCheck(budget, "a", 1, () => Promise.reject(new Error("wrong value")));
  expect(fails).toMatchObject({ outcome: "failed", detail: "wrong value" });
  let ran = false;
  const late = await runCheck(budget, "b", 10, async () => {
    ran = true;
    return { outcome: "passed", detail: "" };
  });
  expect(late.outcome).toBe("not run");
  expect(ran).toBe(false);
});

test("work that takes too long is stopped", async () => {
  let stopped = false;
  const never = new Promise<never>(() => {});
  const stop = () => {
    stopped = true;
  };
  await expect(new Budget(60).within(0.01, never, stop)).rejects.toThrow("took longer than");
  expect(stopped).toBe(true);
});

test("tests of vitest pass if some ran and none failed", () => {
  const json = (passed: number, failed: number, success: boolean) =>
    JSON.stringify({
      ...{ numPassedTests: passed, numFailedTests: failed, success },
      testResults: [{ assertionResults: failed ? [{ status: "failed", fullName: "matmul 0" }] : [] }],
    });
  expect(vitestFinding(json(3, 0, true)).outcome).toBe("passed");
  expect(vitestFinding(json(0, 0, true)).outcome).toBe("failed");
  // A file that can't be loaded fails without a failed test.
  expect(vitestFinding(json(3, 0, false)).outcome).toBe("failed");
  expect(vitestFinding(json(3, 1, false))).toEqual({
    outcome: "failed",
    detail: "3 passed, 1 failed\nmatmul 0",
  });
});

test("losses agree within the bound, all of them and as many", () => {
  expect(apart([2, 4], [2, 5])).toBeCloseTo(0.2);
  expect(apart([2], [2, 5])).toBe(Number.POSITIVE_INFINITY);
  expect(apart([2, Number.NaN], [2, 5])).toBe(Number.POSITIVE_INFINITY);
  expect(agreement("fp32", [2, 4.0001], [2, 4]).outcome).toBe("passed");
  expect(agreement("fp32", [2, 4.001], [2, 4]).outcome).toBe("failed");
  expect(agreement("bf16", [2, 4.001], [2, 4]).outcome).toBe("passed");
  expect(agreement("fp32", [], []).outcome).toBe("failed");
});

const measured = (seconds: number, more: Partial<Measured> = {}): Measured => ({
  ...{ seconds, loss: 11.8, usedBytes: 30 * GiB, plannedBytes: null, how: "" },
  ...more,
});

test("the fastest of PyTorch's ways counts, and one that ran beats one that did not", () => {
  const [slow, fast] = [measured(3), measured(2, { how: "compile" })];
  expect(fastest([slow, { why: "out of memory" }, fast])).toBe(fast);
  expect(fastest([{ why: "out of memory" }, { why: "late" }])).toEqual({ why: "out of memory" });
});

test("the longest sequence lies within an eighth, and ends where time does", async () => {
  const tried: number[] = [];
  const upTo = (most: number) => async (tokens: number) => {
    tried.push(tokens);
    return tokens <= most ? measured(1) : { why: "out of memory" };
  };
  expect((await longest("PyTorch", 1024, upTo(5000))).trained).toBe(4608);
  expect(tried).toEqual([1024, 2048, 4096, 8192, 6144, 5120, 4608]);
  expect(await longest("PyTorch", 1024, upTo(10))).toEqual({
    ...{ side: "PyTorch", trained: null, detail: "1,024: out of memory" },
  });
  const late = async (tokens: number) => (tokens > 2048 ? { why: "no time" } : measured(1));
  expect(await longest("Ithaca", 1024, late)).toEqual({
    ...{ side: "Ithaca", trained: 2048, detail: "4,096: no time" },
  });
});

describe("the report", () => {
  const row = {
    ...{ shape: "Llama-3.2-1B", tokens: 131072, modelFlops: 4e15 },
    ours: measured(10, { usedBytes: 40.5 * GiB, plannedBytes: 40 * GiB }),
    torch: measured(15, { how: "checkpointing", usedBytes: 60 * GiB }),
  };
  const report: Report = {
    ...{
      machine: { date: "2030-01-02 03:04", GPU: "NVIDIA H100" },
      peakFlops: 1e15,
      contextBytes: 0.4 * GiB,
    },
    checks: [{ name: "build", outcome: "passed", detail: "3 programs", seconds: 41 }],
    rows: [row, { ...row, tokens: 262144, torch: { why: "out of memory" } }],
    longest: [{ side: "PyTorch", trained: null, detail: "32,768: out of memory" }],
  };

  test("has speed-up, FLOPs and memory as they follow from what was measured", () => {
    expect(speedUp(row)).toBe(1.5);
    expect(offPlan(row, 0.4 * GiB)).toBeCloseTo(0.0025);
    expect(offPlan(row, null)).toBeNull();
    const page = markdown(report);
    expect(page).toContain(
      "| Llama-3.2-1B | 131,072 | 13,107 | 400 (40.0%) | 40.50 | 8,738 | 267 (26.7%) | 60.00 (checkpointing) | 1.50 | 40.00 |",
    );
    expect(page).toContain("| causal MFU at 128K | 44% | 40.0% |");
    expect(page).toContain("| tokens/s at 32K and more, of PyTorch's | 1.3 | 1.50 |");
    expect(page).toContain("| measured peak from the planned, at most | 1% | 0.25% |");
  });

  test("says of what was not measured why, and has no number for it", () => {
    const page = markdown({ ...report, peakFlops: null, contextBytes: null });
    expect(page).toContain("| 26,214 | 400 | 40.50 | out of memory | - | - | - | 40.00 |");
    expect(page).toContain("| causal MFU at 128K | 44% | not measured |");
    expect(page).toContain("| measured peak from the planned, at most | 1% | not measured |");
    const nothing = markdown({ ...report, rows: [], longest: [], checks: [] });
    expect(nothing).not.toMatch(/not measured|tokens|TFLOP/);
  });
});
