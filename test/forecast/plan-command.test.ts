/** @file `ithaca plan` from outside: what it prints, its JSON, its exit codes and refusals. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";
import { reportKinds } from "../../src/plan/anatomy.ts";
import { captured } from "../support/command-line.ts";
import { written } from "./tiny.ts";

const config = written("command");
const said = captured();

const plan = (...args: string[]): Promise<number> => runCommandLine(["plan", config, ...args]);

describe("--json", () => {
  test("has what the documentation promises", async () => {
    expect(await plan("--json", "--machine", "h100-80gb", "--gpus", "2")).toBe(0);
    const answer = JSON.parse(said.stdout);
    expect(answer).toMatchObject({ fits: true, machine: "h100-80gb", ranks: 2, sequence_length: 256 });
    for (const key of ["device_peak_bytes", "host_peak_bytes", "step_time_s", "model_tflops"])
      expect(answer[key], key).toBeGreaterThan(0);
    expect(Object.keys(answer.by_kind)).toEqual(reportKinds);
    expect(Object.keys(answer.bytes_sent).sort()).toEqual(["all_gather", "all_reduce", "all_to_all"]);
    expect(answer.bytes_sent.all_to_all).toBeGreaterThan(0);
    expect(answer).not.toHaveProperty("max_sequence_length");
    expect(answer.device_limit_bytes).toBe(Math.floor(79.1 * 2 ** 30));
    expect(answer.host_limit_bytes).toBe(1.9e12 / 2);
    expect(answer.file_peak_bytes).toBe(0);
  });

  test("with --max-sequence and --explain", async () => {
    expect(await plan("--json", "--max-sequence", "--explain", "--device-memory", "40MiB")).toBe(0);
    const answer = JSON.parse(said.stdout);
    expect(answer.max_sequence_length % 16).toBe(0);
    expect(answer.max_sequence_length).toBe(answer.sequence_length);
    expect(answer.device_peak_bytes).toBeLessThanOrEqual(40 * 2 ** 20);
    expect(answer.limited_by).toBe("device");
    expect(answer.reasons.map(({ choice }: { choice: string }) => choice)).toContain("memory.tiled_loss");
  });
});

test("--max-sequence is the longest that fits where the host has room for some of what is kept, or none", async () => {
  const limits = ["--device-memory", "40MiB", "--host-memory", "1MiB"];
  expect(await plan("--json", "--max-sequence", ...limits)).toBe(0);
  const { max_sequence_length: longest, host_peak_bytes } = JSON.parse(said.stdout);
  expect(host_peak_bytes).toBeLessThanOrEqual(2 ** 20);
  const longer = 16 * Math.ceil((longest * 1.02) / 16);
  expect(await plan("--json", "--set", `sequence_length=${longer}`, ...limits)).toBe(1);
});

test("for people: kinds, layers, what is alive with its line, time, allowances", async () => {
  const svg = join(mkdtempSync(join(tmpdir(), "ithaca-plan-")), "step.svg");
  expect(await plan("--machine", "h200", "--gpus", "4", "--explain", "--timeline", svg)).toBe(0);
  expect(said.stdout).toContain("on 4 x h200: 256 tokens in a step, fp32");
  expect(said.stdout).toMatch(/device +\d+\.\d GiB {2}of 139\.0 GiB, \d+\.\d%/);
  expect(said.stdout).toMatch(/activations +\d/);
  expect(said.stdout).toMatch(/layers\.0/);
  expect(said.stdout).toMatch(/alive at the peak, step \d+/);
  expect(said.stdout).toMatch(/llama\.ts:\d+/);
  expect(said.stdout).toMatch(/\|[▁▂▃▄▅▆▇█]+\|/);
  expect(said.stdout).toContain("CUDA context");
  expect(said.stdout).toContain("memory, taken: off");
  expect(said.stdout).toMatch(
    /%out\.1, %out\.lse: kept: llama\.ts:\d+: \S+ \S+ in all layers of a rank; computing it again/,
  );
  expect(said.stderr).toBe(`${svg} shows the step\n`);
  expect(readFileSync(svg, "utf8")).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
  rmSync(svg);
});

test("settings that no pass does are counted by formula, and said so", async () => {
  expect(await plan("--machine", "h100-80gb", "--gpus", "2", "--set", "parallel.zero_stage=3")).toBe(0);
  expect(said.stdout).toContain("By formula, since no pass does it yet");
  expect(said.stdout).toContain(
    "parallel.zero_stage: weights, gradients and optimizer state are shared by all ranks",
  );
});

test("what does not fit ends with 1, and says how much is missing", async () => {
  expect(await plan("--device-memory", "1MiB")).toBe(1);
  expect(said.stdout).toMatch(
    /It does not fit: a step needs [\d.]+ MiB of device memory, [\d.]+ [KM]iB more than/,
  );
  expect(said.stdout).toMatch(
    /Even with this, it needs [\d.]+ MiB of device memory: set memory.optimizer_offload: host/,
  );
});

test("what would make it fit is said, and does", async () => {
  expect(await plan("--device-memory", "6MiB", "--json")).toBe(1);
  const { fits, remedy } = JSON.parse(said.stdout);
  expect(fits).toBe(false);
  expect(remedy).toMatch(/[Ss]et memory.optimizer_offload: host \([\d.]+ MiB of device memory\)/);
  expect(await plan("--device-memory", "6MiB", "--set", "memory.optimizer_offload=host")).toBe(0);
});

describe("refusals", () => {
  test.each([
    [["--machine", "h100"], 'there is no machine "h100"'],
    [["--gpus", "0"], "--gpus is 0; it must be a multiple of parallel.data, 1"],
    [["--gpus", "3", "--set", "parallel.data=2"], "--gpus is 3; it must be a multiple of parallel.data, 2"],
    [["--device-memory", "many"], "--device-memory is many; it must be a size such as 80GiB"],
    [["--max-sequence"], "without a limit every length fits"],
  ])("%j", async (args, message) => {
    expect(await plan(...args)).toBe(1);
    expect(said.stderr).toContain(message);
    expect(said.stdout).toBe("");
  });
});
