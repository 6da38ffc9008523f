/** @file Bytes that ranks send: the plan's prediction, by hand where it is small, and as counted in training runs. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { findMpi } from "../../src/codegen/toolchain.ts";
import { compileConfig } from "../../src/compile.ts";
import { loadConfig } from "../../src/config/load.ts";
import { bytesSent, type Plan, printPlan, totalBytesSent } from "../../src/ir/plan.ts";
import { planned } from "../support/planned.ts";

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
const root = path("../../");
const scratch = mkdtempSync(join(tmpdir(), "ithaca-traffic-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const mpi = await findMpi();
const patient = { timeout: 240_000 };

describe("what a plan predicts", () => {
  test("each collective, on an axis of 4 ranks and one of 2", () => {
    const plan = planned(`graph g mesh(dp=2, sp=4) {
      input %x : bf16[2@dp, 8@sp, 16]
      input %y : f32[2@dp, 8@sp, 4]
      input %w : f32[4, 4]{sum@sp}
      input %b : f32[100, 101]{sum@sp}
      %x.1, %y.1 = all_to_all %x, %x axis=sp from=1 to=2 : bf16[2@dp, 8, 16@sp], bf16[2@dp, 8, 16@sp]
      %y.2 = all_gather %y axis=dp dim=0 : f32[2, 8@sp, 4]
      %w.1 = reduce_scatter %w axis=sp dim=0 : f32[4@sp, 4]
      %b.1 = all_reduce %b axis=sp : f32[100, 101]
      return x = %x.1
      return z = %y.1
      return y = %y.2
      return w = %w.1
      return b = %b.1
    }`);
    // A share of %x is 2 x 16 bf16, of which three of four parts go elsewhere, twice. All of %b's 10,100 elements leave
    // in parts of 2,525 f32: three to those that sum them, the own sum to three.
    expect(Object.fromEntries(bytesSent(plan))).toEqual({
      all_to_all: 2 * ((2 * 16 * 2) / 4) * 3,
      all_gather: 2 * 4 * 4,
      reduce_scatter: 3 * (4 * 4),
      all_reduce: 3 * 2 * 2525 * 4,
    });
    expect(printPlan(plan)).toContain(
      `sent by each rank in a step: 59.4 KiB  (${totalBytesSent(plan)} bytes)`,
    );
  });

  test("small sums every rank makes for itself, and what is left over of large ones; loops count", () => {
    const plan = planned(`graph g mesh(sp=3) {
      input %a : f32[]{sum@sp}
      input %b : f32[5000]{sum@sp}
      %z = constant : f32[]
      %a.2 = repeat %z, %a times=5 carry=1 : f32[] {
        param %total : f32[]
        param %p : f32[]{sum@sp}
        %s = all_reduce %p axis=sp : f32[]
        %t = add %total, %s : f32[]
        return %t
      }
      %b.1 = all_reduce %b axis=sp : f32[5000]
      return a = %a.2
      return b = %b.1
    }`);
    expect(totalBytesSent(plan)).toBe(5 * 2 * 4 + 2 * (2 * 1666 + 2) * 4);
  });

  test("nothing is sent by one rank", () => {
    const plan = planned("graph g {\n  input %x : f32[4]\n  %y = silu %x : f32[4]\n  return y = %y\n}");
    expect(totalBytesSent(plan)).toBe(0);
    expect(printPlan(plan)).not.toContain("sent");
  });
});

/** Trains the golden Llama for two steps: its plan, and the lines of its metrics. */
async function run(changes: Readonly<Record<string, string | number>>) {
  const name = Object.values(changes).join("-");
  const file = join(scratch, `${name}.yaml`);
  const config = {
    model: path("../golden/llama/model"),
    data: path("../golden/tokens.bin"),
    output_dir: join(scratch, name),
    sequence_length: 130,
    max_steps: 2,
    learning_rate: 1e-3,
    threads: 1,
  };
  writeFileSync(file, JSON.stringify(config));
  const settings = Object.entries(changes).map(([key, value]) => `${key}=${value}`);
  const { plan } = await compileConfig(loadConfig(file, settings));
  const args = ["--import", "tsx", join(root, "src/cli/main.ts"), "train", file];
  const flags = settings.flatMap((setting) => ["--set", setting]);
  const { status, stderr } = spawnSync(process.execPath, [...args, ...flags], {
    cwd: root,
    encoding: "utf8",
  });
  expect(status, stderr).toBe(0);
  const lines = readFileSync(join(config.output_dir, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return { plan: plan as Plan, sent: lines.map((line) => JSON.parse(line).bytes_sent as number) };
}

describe("a run sends what its plan predicts", () => {
  const local = [
    { "parallel.sequence": 2 },
    { "parallel.sequence": 3, gradient_accumulation_steps: 2 },
    { "parallel.sequence": 2, "parallel.data": 2, micro_batch_size: 2, gradient_accumulation_steps: 2 },
    { "parallel.data": 3 },
    // More ranks than the 6 heads allow: a mesh of ring 4 by sp 2.
    { "parallel.sequence": 8, gradient_accumulation_steps: 2 },
  ];
  test.each(local)("%o", patient, async (changes) => {
    const { plan, sent } = await run(changes);
    expect(sent[0]).toBeGreaterThan(0);
    expect(sent).toEqual([totalBytesSent(plan), totalBytesSent(plan)]);
  });

  test.skipIf(!mpi)("as processes too", patient, async () => {
    const { plan, sent } = await run({ "parallel.sequence": 3, "parallel.comm": "mpi" });
    expect(sent).toEqual([totalBytesSent(plan), totalBytesSent(plan)]);
  });
});
