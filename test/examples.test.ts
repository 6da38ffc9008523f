/** @file Every example that needs nothing from outside runs, and its loss falls. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { compileConfig, planConfig } from "../src/compile.ts";
import { loadConfig } from "../src/config/load.ts";
import { loadPasses } from "../src/extend/passes.ts";
import { allNodes, type Graph } from "../src/ir/graph.ts";
import { parse } from "../src/ir/parse.ts";
import { train } from "../src/launch/train.ts";
import { numbersKept } from "../src/passes/check.ts";
import { runPipeline } from "../src/passes/run.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-examples-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const configOf = (name: string, ...overrides: string[]) =>
  loadConfig(fileURLToPath(new URL(`../examples/${name}/config.yaml`, import.meta.url)), overrides);

interface Metrics {
  readonly loss: number;
  readonly bytes_sent: number;
}

/** Trains the example and gives what metrics.jsonl says of each step. */
async function trained(name: string, run: string, ...overrides: string[]): Promise<Metrics[]> {
  const output = join(scratch, run);
  const config = configOf(name, `output_dir=${output}`, ...overrides);
  const quiet = { report: () => {}, lines: new PassThrough().resume() };
  const { exitCode } = await train(await compileConfig(config), config, quiet);
  expect(exitCode).toBe(0);
  const lines = readFileSync(join(output, "metrics.jsonl"), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Metrics);
}

test.each([
  ["a definition of our own", "definition"],
  ["an op of our own", "custom-op"],
])("%s trains", async (_, name) => {
  const losses = (await trained(name, name)).map(({ loss }) => loss);
  expect(losses).toHaveLength(10);
  expect(losses[9]).toBeLessThan(losses[0] - 0.2);
});

test("its mistakes are shown where they are", async () => {
  const config = configOf("definition", "model.config.heads=5");
  await expect(compileConfig(config)).rejects.toThrow("5 heads do not divide 64");
});

test("reduce-in-bf16 sends half the bytes, and two ranks learn all the same", async () => {
  const file = fileURLToPath(new URL("../examples/passes/reduce-in-bf16.ts", import.meta.url));
  const passes = `passes=${JSON.stringify([{ file, after: "reduce" }])}`;
  const whole = await trained("definition", "whole", "parallel.data=2");
  const half = await trained("definition", "half", "parallel.data=2", passes);
  // The norms' weights and the loss are too small to be worth it.
  expect(half[0].bytes_sent).toBeLessThan(0.52 * whole[0].bytes_sent);
  const [first, last] = [half[0].loss, half[9].loss];
  // The first loss is from before any gradient; later ones differ, by the rounding of bf16.
  expect(first).toBe(whole[0].loss);
  expect(last).not.toBe(whole[9].loss);
  expect(Math.abs(last - whole[9].loss)).toBeLessThan(1e-3);
  expect(last).toBeLessThan(first - 0.2);
}, 120_000);

describe("fuse-add-norm", () => {
  const folder = fileURLToPath(new URL("../examples/passes/add-rms-norm/", import.meta.url));
  const settings = (after: string) => [
    `ops=${JSON.stringify([join(folder, "add_rms_norm.ts")])}`,
    `passes=${JSON.stringify([{ file: join(folder, "fuse-add-norm.ts"), after }])}`,
  ];
  const ops = (graph: Graph) => allNodes(graph.nodes).map(({ op }) => op);

  test.each([
    // Of a layer that is rolled up, the first norm is behind an add of the layer before, and so is the last of all.
    ["rolled up", "ulysses", { add_rms_norm: 1, rms_norm: 2 }],
    ["written out, with their gradients", "tile-loss", { add_rms_norm: 32, rms_norm: 1 }],
  ])(
    "keeps every bit where layers are %s",
    async (_, after, counts) => {
      const config = configOf("walk", ...settings(after));
      const { stages, entries } = await planConfig(config, {
        stopAfter: after === "ulysses" ? "simplify" : "fuse-add-norm",
      });
      const at = stages.findIndex(({ pass }) => pass === "fuse-add-norm");
      for (const [op, count] of Object.entries(counts))
        expect(
          ops(stages[at].graph).filter((own) => own === op),
          op,
        ).toHaveLength(count);
      const lines: string[] = [];
      runPipeline(stages[0].graph, entries, { compare: numbersKept({ report: (line) => lines.push(line) }) });
      expect(lines.find((line) => line.startsWith("fuse-add-norm"))).toMatch(
        /bit for bit, and rank by rank on 2 ranks$/,
      );
    },
    60_000,
  );

  test("leaves an add that something reads in between", () => {
    const [{ pass }] = loadPasses(join(folder, "fuse-add-norm.ts"));
    const text = (between: string) => `graph g {
  input %a : f32[2, 4]
  param %w : f32[4]
  %h = add %a, %a : f32[2, 4]
  ${between}
  %n = rms_norm %h, %w : f32[2, 4]
  return n = %n
  return h = %h
}
`;
    const kept = parse(text("%r = relu %h : f32[2, 4]"));
    expect(pass.run(kept, {})).toBe(kept);
    expect(ops(pass.run(parse(text("")), {}))).toEqual(["add_rms_norm"]);
  });

  test("trains to the same loss with the op's kernel", async () => {
    const plain = await trained("definition", "unfused");
    const config = configOf("definition", ...settings("tile-loss"));
    expect(ops((await planConfig(config)).stages.at(-1)?.graph as Graph)).toContain("add_rms_norm");
    const fused = await trained("definition", "fused", ...settings("tile-loss"));
    expect(Math.abs(fused[9].loss - plain[9].loss)).toBeLessThan(1e-4);
  }, 120_000);
});
