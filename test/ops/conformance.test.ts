/** @file Conformance of ops, from their samples alone: types, gradients, and every layout rank by rank. */
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import { Builder, building } from "../../src/ir/build.ts";
import type { Attrs, Graph, Value } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type OpName, opNames, recordOf } from "../../src/ir/ops/index.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { isFloat, sizesOf } from "../../src/ir/type.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";
import { filled } from "../support/random.ts";
import { call, type Prepared, prepare, ready } from "../support/sample.ts";
import { samples } from "./samples.ts";

/** Every sample of every op with float64 in mind: the element type plays no part in evaluation. */
const all = opNames.flatMap((op) =>
  samples[op].map((sample, i) => ({ title: `${op} ${i}: ${sample.types.join(", ")}`, op, sample })),
);

describe("inference agrees with eval", () => {
  test.each(all)("$title", ({ op, sample }) => {
    const { graph, given } = ready(prepare(op, sample, "f32"));
    expect(verify(graph, ["typed", "laid-out"]).map(printComplaint)).toEqual([]);
    const { outputs } = interpret(graph, given);
    for (const { name, value } of graph.outputs) {
      const result = outputs.get(name) as NDArray;
      expect(result.sizes).toEqual(sizesOf(value.type));
      expect(result.data).toHaveLength(sizesOf(value.type).reduce((a, b) => a * b, 1));
      expect(result.data.every(Number.isFinite)).toBe(true);
    }
  });

  test.each(all)("$title as text", ({ op, sample }) => {
    const { graph } = ready(prepare(op, sample, "bf16"));
    expect(print(parse(print(graph)))).toBe(print(graph));
  });
});

/** Results whose gradients an op propagates; the others (a log-sum-exp kept for backward) are constants to it. */
const FIRST_ONLY: ReadonlySet<OpName> = new Set(["attention", "cross_entropy"]);
/** Float operands that have no gradient by design: tables made of positions. */
const CONSTANT_OPERANDS: Partial<Record<OpName, readonly number[]>> = { rope: [1, 2] };

/** A graph that returns the gradient of sum(seed * result) in each operand, made by the op's own record. */
function gradientGraph({ op, sample, types, attrs, mesh }: Prepared): { graph: Graph; wanted: number[] } {
  const builder = new Builder(mesh);
  const operands = types.map((type, i) => builder.param("input", `x${i}`, type));
  const gradient = recordOf(op).gradient;
  const grads = building(builder, () => {
    const results = call(op, sample, attrs, operands);
    const seeds = results.map(({ type }, i): Value | null =>
      isFloat(type) && !(FIRST_ONLY.has(op) && i > 0) ? builder.param("input", `seed${i}`, type) : null,
    );
    const filledIn = builder.nodes[0].attrs as Attrs;
    return (
      gradient?.({ operands, results, attrs: filledIn, grads: seeds, body: builder.nodes[0].body }) ?? []
    );
  });
  const wanted = types.flatMap((type, i) =>
    isFloat(type) && !CONSTANT_OPERANDS[op]?.includes(i) ? [i] : [],
  );
  const outputs = wanted.map((i) => ({ name: `d${i}`, value: grads[i] as Value }));
  return {
    graph: { name: op, mesh, params: builder.params, nodes: builder.nodes, outputs, updates: [] },
    wanted,
  };
}

/** sum(seed * result) of the op alone. */
function objective(prepared: Prepared, arrays: ReadonlyMap<string, NDArray>): number {
  const { graph } = ready(prepared);
  const { outputs } = interpret(graph, arrays);
  return graph.outputs.reduce((total, { name }, i) => {
    const seed = arrays.get(`seed${i}`);
    if (!seed) return total;
    return total + (outputs.get(name) as NDArray).data.reduce((sum, y, at) => sum + y * seed.data[at], 0);
  }, 0);
}

const STEP = 1e-5;
/** Elements of each operand at which the slope is measured. */
const PROBES = 24;
const differentiable = all.filter(
  ({ op, sample }) =>
    recordOf(op).gradient !== null &&
    sample.types.some((type) => !type.includes("i32")) &&
    sample.attrs?.dtype !== "i32" &&
    // Its gradient is of a partial sum, which a seed here is not.
    op !== "all_gather",
);

describe("gradients agree with finite differences", () => {
  test.each(differentiable)("$title", ({ op, sample }) => {
    const prepared = prepare(op, sample, "f32");
    const { graph, wanted } = gradientGraph(prepared);
    expect(verify(graph).map(printComplaint)).toEqual([]);
    const given = new Map<string, NDArray>();
    graph.params.forEach(({ value }, i) => {
      const own = value.name.startsWith("x") ? prepared.arrays[Number(value.name.slice(1))] : undefined;
      given.set(value.name, own ?? filled(value.type, "normal", 77 + i));
    });
    const { outputs } = interpret(graph, given);
    for (const i of wanted) {
      const x = given.get(`x${i}`) as NDArray;
      const gradient = (outputs.get(`d${i}`) as NDArray).data;
      const size = gradient.reduce((most, d) => Math.max(most, Math.abs(d)), 1);
      for (let at = 0; at < x.data.length; at += Math.ceil(x.data.length / PROBES)) {
        const [up, down] = [STEP, -STEP].map((step) => {
          const moved = { sizes: x.sizes, data: x.data.with(at, x.data[at] + step) };
          return objective(prepared, new Map([...given, [`x${i}`, moved]]));
        });
        const slope = (up - down) / (2 * STEP);
        expect(Math.abs(gradient[at] - slope), `${sample.types[i]} at ${at}`).toBeLessThan(1e-7 * size);
      }
    }
  });

  test.each(differentiable)("$title in bf16: in the operand's element type or in f32", ({ op, sample }) => {
    const prepared = prepare(op, sample, "bf16");
    const { graph, wanted } = gradientGraph(prepared);
    expect(verify(graph).map(printComplaint)).toEqual([]);
    wanted.forEach((operand, i) => {
      const { dtype } = graph.outputs[i].value.type;
      expect([prepared.types[operand].dtype, "f32"]).toContain(dtype);
    });
  });

  test("every op has a gradient, is one, or is named here", () => {
    const without = opNames.filter((op) => recordOf(op).gradient === null && !op.includes("_grad"));
    expect(without).toEqual([
      "minimum",
      "maximum",
      "matmul_add",
      "sum_squares",
      "adamw",
      "repeat",
      "tile",
      "checkpoint",
      "fused",
    ]);
  });
});
