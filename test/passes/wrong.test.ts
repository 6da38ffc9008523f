/**
 * @file Passes that are wrong on purpose: each is named by the verifier or by `--check`, with the place, and what is
 * right passes both. A pass here changes just one thing that a hurried author might.
 */
import { describe, expect, test } from "vitest";
import { Builder, building } from "../../src/ir/build.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { ops } from "../../src/ir/ops/index.ts";
import { rewrite } from "../../src/ir/rewrite.ts";
import { numbersKept } from "../../src/passes/check.ts";
import { definePass, type Pass } from "../../src/passes/pass.ts";
import { type PipelineEntry, trainingPipeline } from "../../src/passes/pipeline.ts";
import { PassError, runPipeline } from "../../src/passes/run.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";

const kinds = ["norm", "linear", "attention", "mlp"] as const;
const MODEL = {
  ...PLAIN,
  batch: 2,
  sequence: 8,
  kvHeads: 2,
  window: 3,
  blocks: kinds.map((kind) => ({ kind, a: 0, b: 1 })),
};
const MESH = new Map([
  ["dp", 2],
  ["sp", 2],
]);

const wrong = (name: string, run: (graph: Graph) => Graph): PipelineEntry => {
  const pass: Pass = definePass({
    name,
    summary: "is wrong",
    numerics: "exact",
    requires: [],
    establishes: [],
    options: {},
    run,
  });
  return { pass, why: "a mistake", options: {}, file: "wrong.ts" };
};

/** What is said about `mistake` when it runs behind `after` in the training of a small decoder on four ranks. */
function complaintAbout(after: string, mistake: PipelineEntry): string {
  const entries = trainingPipeline(TRAINING);
  const at = entries.findIndex(({ pass }) => pass.name === after) + 1;
  expect(at, after).toBeGreaterThan(0);
  try {
    runPipeline(decoder(MODEL, MESH), entries.toSpliced(at, 0, mistake), { compare: numbersKept() });
  } catch (error) {
    expect(error).toBeInstanceOf(PassError);
    expect((error as PassError).pass).toBe(mistake.pass.name);
    return (error as Error).message;
  }
  return "nothing was wrong";
}

const without = (graph: Graph, name: string): Graph => ({
  ...graph,
  outputs: graph.outputs.filter((output) => output.name !== name),
});

/** Each mistake, the pass it follows, and what is said. */
const mistakes: readonly [string, string, (graph: Graph) => Graph, RegExp][] = [
  [
    "drop-all-to-all",
    "ulysses",
    (graph) => rewrite(graph, { all_to_all: (_node, { xs }) => xs }),
    /does not verify:\n {2}model\.ts:3: .*attention: [qk] needs dimension s whole, but it is split over sp \(laid-out\)/,
  ],
  [
    "swap-operands",
    "simplify",
    (graph) => rewrite(graph, { swiglu: (_node, { gate, up }) => ops.swiglu(up, gate) }),
    /changed the numbers: output loss_sum is .*\n {2}The first value that differs is %\S+: at .*\n {2}model\.ts:4: .*swiglu/,
  ],
  [
    "drop-the-mask",
    "ulysses",
    (graph) =>
      rewrite(graph, {
        attention: (node, { q, k, v, segments }) =>
          ops.attention(q, k, v, segments, { ...node.attrs, causal: false }),
      }),
    /changed the numbers: output loss_sum .*\n.*\n {2}model\.ts:3: .*attention/,
  ],
  [
    "forget-the-window",
    "ulysses",
    (graph) =>
      rewrite(graph, {
        attention: (node, { q, k, v, segments }) =>
          ops.attention(q, k, v, segments, { ...node.attrs, window: 0 }),
      }),
    /changed the numbers: output loss_sum/,
  ],
  [
    "forget-documents",
    "shard",
    (graph) =>
      rewrite(graph, {
        attention: (node, { q, k, v, segments }) =>
          ops.attention(q, k, v, ops.sub(segments, segments), node.attrs),
      }),
    /changed the numbers: output loss_sum/,
  ],
  [
    "pretend-one-document",
    "ulysses",
    (graph) =>
      rewrite(graph, {
        attention: (node, { q, k, v, segments }) =>
          ops.attention(q, k, v, segments, { ...node.attrs, packed: false }),
      }),
    /changed the numbers: output loss_sum/,
  ],
  [
    "sum-a-partial-twice",
    "reduce",
    (graph) => rewrite(graph, { all_reduce: (node, { x }) => ops.all_reduce(ops.add(x, x), node.attrs) }),
    /changed the numbers: output \S+ .*\n {2}The first value that differs/,
  ],
  [
    "reduce-what-is-whole",
    "reduce",
    (graph) =>
      rewrite(graph, {
        all_reduce: (node, { x }) => ops.all_reduce(ops.all_reduce(x, node.attrs), node.attrs),
      }),
    /the pass "reduce-what-is-whole" failed: .*the value is not a partial sum over "(dp|sp)"/,
  ],
  [
    "offload-without-reload",
    "simplify",
    (graph) =>
      rewrite(graph, { swiglu: (_node, { gate, up }) => ops.swiglu(ops.offload(gate), ops.offload(up)) }),
    /does not verify:\n {2}model\.ts:4: .*matmul: \w+ is in host memory/,
  ],
  [
    "wrong-gradient",
    "differentiate",
    (graph) =>
      rewrite(graph, {
        rms_norm_grad: (node, { x, weight, dy }) => {
          const [dx, dWeight] = ops.rms_norm_grad(x, weight, dy, node.attrs);
          return [ops.scale(dx, { by: 2 }), dWeight];
        },
      }),
    /changed the numbers: output d\.\S+ .*\n {2}The first value that differs is %d\./,
  ],
  [
    "lose-a-gradient",
    "differentiate",
    (graph) => without(graph, "d.norm.weight"),
    /does not verify:\n {2}%norm\.weight: there is no gradient \(differentiated\)/,
  ],
  [
    "lose-the-count",
    "shard",
    (graph) => without(graph, "loss_count"),
    /changed the numbers: the output "loss_count" is gone/,
  ],
  [
    "forget-an-update",
    "optimizer",
    (graph) => ({ ...graph, updates: graph.updates.slice(1) }),
    /does not verify:\n(.*\n)? {2}%embed\.weight: there is no update \(updated\)/,
  ],
  [
    "use-before-definition",
    "unroll",
    (graph) => ({ ...graph, nodes: graph.nodes.toReversed() }),
    /does not verify:\n.*is used before it is defined/,
  ],
  [
    "forget-a-factor",
    "shard",
    (graph) =>
      rewrite(graph, {
        rms_norm: (node, { x, weight }) => ops.scale(ops.rms_norm(x, weight, node.attrs), { by: 0.5 }),
      }),
    /changed the numbers/,
  ],
];

describe("a wrong pass is caught by name:", () => {
  test.each(mistakes)("%s", (name, after, run, message) => {
    expect(complaintAbout(after, wrong(name, run))).toMatch(message);
  });

  test("tile-what-is-not-free", () => {
    // The norm's last dimension is cut in two halves, each normalized for itself.
    const halves = wrong("tile-what-is-not-free", (graph) =>
      rewrite(graph, {
        rms_norm: (node, { x, weight }) => {
          const width = x.type.dims[x.type.dims.length - 1].size;
          const part = (start: number) =>
            ops.rms_norm(
              ops.slice(x, { dim: 2, start, length: width / 2 }),
              ops.slice(weight, { dim: 0, start, length: width / 2 }),
              node.attrs,
            );
          return ops.concat([part(0), part(width / 2)], { dim: 2 });
        },
      }),
    );
    expect(complaintAbout("ulysses", halves)).toMatch(/changed the numbers: output loss_sum/);
  });

  test("a derivative that is wrong", () => {
    const entries = trainingPipeline(TRAINING);
    const own = entries.find(({ pass }) => pass.name === "differentiate") as PipelineEntry;
    const pass: Pass = {
      ...own.pass,
      name: "my-differentiate",
      run: (graph, options) =>
        rewrite(own.pass.run(graph, options), {
          swiglu_grad_up: (_node, { a, b }) => ops.scale(ops.swiglu_grad_up(a, b), { by: 1.5 }),
        }),
    };
    const mine = entries.map((entry) => (entry === own ? { ...entry, pass } : entry));
    expect(() => runPipeline(decoder(MODEL, MESH), mine, { compare: numbersKept() })).toThrow(
      /the pass "my-differentiate" changed the numbers: the gradient of %\S+ is wrong: along a direction it says/,
    );
  });

  test("the gradient of any single parameter, a tenth too large", () => {
    const entries = trainingPipeline(TRAINING);
    const at = entries.findIndex(({ pass }) => pass.name === "differentiate");
    const own = entries[at];
    const graph = decoder(MODEL, new Map());
    const names = graph.params.filter(({ role }) => role === "param").map(({ value }) => value.name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) {
      const pass: Pass = {
        ...own.pass,
        name: "my-differentiate",
        run: (before, options) => {
          const after = own.pass.run(before, options);
          const builder = Builder.continuing(after);
          const outputs = after.outputs.map((output) =>
            output.name === `d.${name}`
              ? { ...output, value: building(builder, () => ops.scale(output.value, { by: 1.1 })) }
              : output,
          );
          return { ...after, nodes: builder.nodes, outputs };
        },
      };
      const mine = entries.slice(0, at + 1).map((entry) => (entry === own ? { ...entry, pass } : entry));
      expect(() => runPipeline(graph, mine, { compare: numbersKept() })).toThrow(
        `the gradient of %${name} is wrong`,
      );
    }
  });

  test("and the passes that are right are not", () => {
    const lines: string[] = [];
    const options = {
      ...TRAINING,
      packed: false,
      gradientAccumulationSteps: 2,
      lossTiles: 2,
      checkpointing: "layer" as const,
    };
    runPipeline(decoder(MODEL, MESH), trainingPipeline(options), {
      compare: numbersKept({ report: (line) => lines.push(line) }),
    });
    expect(lines.filter((line) => line.includes("not compared"))).toEqual([]);
    expect(lines.length).toBeGreaterThan(7);
    expect(
      lines.some((line) => /^ulysses: 2 results bit for bit, and rank by rank on 4 ranks$/.test(line)),
    ).toBe(true);
  });
});
