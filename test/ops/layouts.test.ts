/**
 * @file Every layout that verifies gives the whole result when the op runs rank by rank on shares.
 *
 * Layouts are drawn two ways: letter by letter of the op's sharding rule, which is what passes make; and at random,
 * each dimension of each operand alone, with partial sums, to find what verifies but should not.
 */
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parseRule, termsOf } from "../../src/ir/layout.ts";
import { completeAttrs } from "../../src/ir/op.ts";
import { type OpName, opNames, recordOf } from "../../src/ir/ops/index.ts";
import { printType, type TensorType } from "../../src/ir/type.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";
import { errorOf, random } from "../support/random.ts";
import { graphOf, type Prepared, prepare, ready } from "../support/sample.ts";
import { samples } from "./samples.ts";

const MESH = new Map([
  ["x", 2],
  ["y", 2],
]);
const SPLITS: readonly (readonly string[])[] = [[], ["x"], ["y"], ["x", "y"]];
const RANDOM_LAYOUTS = 150;

const isMoved = (op: OpName): boolean => ["moves", "body"].includes(String(recordOf(op).sharding));
const ruled = opNames
  .filter((op) => !isMoved(op))
  .flatMap((op) =>
    samples[op].map((sample, i) => ({ title: `${op} ${i}: ${sample.types.join(", ")}`, op, sample })),
  );

function ruleOf({ op, types, sample }: Prepared): string {
  const record = recordOf(op);
  const { sharding } = record;
  return typeof sharding === "string" ? sharding : sharding(completeAttrs(record, sample.attrs ?? {}), types);
}

/** The letters of each dimension of each operand; grouped dimensions by their first. */
function lettersOf(prepared: Prepared): string[][] {
  const ranks = prepared.types.map((type) => type.dims.length);
  return termsOf(parseRule(ruleOf(prepared)), ranks).map((term) => term.map(({ letters }) => letters[0]));
}

function divides(type: TensorType, dim: number, axes: readonly string[]): boolean {
  return axes.length === 0 || (type.dims[dim].size > 1 && type.dims[dim].size % 2 ** axes.length === 0);
}

/** The operand types under a choice of axes for each letter, or null where a size doesn't divide. */
function byLetter(
  { types }: Prepared,
  letters: readonly string[][],
  axes: ReadonlyMap<string, readonly string[]>,
): TensorType[] | null {
  const fits = types.every((type, i) =>
    type.dims.every((_, d) => divides(type, d, axes.get(letters[i][d]) ?? [])),
  );
  if (!fits) return null;
  return types.map((type, i) => ({
    ...type,
    dims: type.dims.map((dim, d) => ({ ...dim, axes: axes.get(letters[i][d]) ?? [] })),
  }));
}

function* layoutsByLetter(prepared: Prepared): Generator<TensorType[]> {
  const letters = lettersOf(prepared);
  const distinct = [...new Set(letters.flat())];
  for (let code = 0; code < SPLITS.length ** distinct.length; code++) {
    const axes = new Map(distinct.map((letter, i) => [letter, SPLITS[Math.floor(code / 4 ** i) % 4]]));
    const types = byLetter(prepared, letters, axes);
    if (types) yield types;
  }
}

function* randomLayouts({ types }: Prepared, seed: number): Generator<TensorType[]> {
  const next = random(seed);
  for (let i = 0; i < RANDOM_LAYOUTS; i++) {
    yield types.map((type) => ({
      ...type,
      dims: type.dims.map((dim, d) => {
        const axes = next() < 0.6 ? [] : SPLITS[Math.floor(next() * 4)];
        return divides(type, d, axes) ? { ...dim, axes } : dim;
      }),
      partial: type.dtype === "i32" || next() < 0.7 ? [] : ["x"],
    }));
  }
}

/** The graph under a layout, or null if it does not verify. */
function laidOut({ op, sample, attrs }: Prepared, types: readonly TensorType[]): Graph | null {
  const graph = graphOf(op, { ...sample, attrs }, types, MESH);
  return verify(graph, ["typed", "laid-out"]).length === 0 ? graph : null;
}

function expectSame(graph: Graph, given: Map<string, NDArray>, whole: ReadonlyMap<string, NDArray>): void {
  const { outputs } = interpret(graph, given, { byRank: true });
  for (const [name, { data }] of whole) {
    const layout = graph.params.map(({ value }) => printType(value.type)).join(", ");
    const result = graph.outputs.find((output) => output.name === name);
    expect(
      errorOf((outputs.get(name) as NDArray).data, data),
      `${layout} -> ${result && printType(result.value.type)}`,
    ).toBeLessThan(1e-9);
  }
}

describe("every layout that verifies gives the whole result rank by rank", () => {
  test.each(ruled)("$title", ({ op, sample }) => {
    const prepared = prepare(op, sample, "f32");
    const { graph, given } = ready(prepared);
    const { outputs: whole } = interpret(graph, given);
    const seen = new Set<string>();
    for (const types of [...layoutsByLetter(prepared), ...randomLayouts(prepared, 5)]) {
      const key = types.map(printType).join();
      if (seen.has(key)) continue;
      seen.add(key);
      const laid = laidOut(prepared, types);
      if (laid) expectSame(laid, given, whole);
    }
  });
});

describe("a free letter can be split, one marked ! can not", () => {
  test.each(opNames.filter((op) => !isMoved(op)))("%s", (op) => {
    const prepared = prepare(op, samples[op][0], "f32");
    const letters = lettersOf(prepared);
    const terms = termsOf(
      parseRule(ruleOf(prepared)),
      prepared.types.map((type) => type.dims.length),
    ).flat();
    for (const letter of new Set(letters.flat())) {
      const types = byLetter(prepared, letters, new Map([[letter, ["x"]]]));
      expect(types, `dimension ${letter} of the first sample must be even`).not.toBeNull();
      const graph = graphOf(op, { ...prepared.sample, attrs: prepared.attrs }, types ?? [], MESH);
      const complaints = verify(graph, ["typed", "laid-out"]).map(printComplaint);
      const whole = terms.some((dim) => dim.letters[0] === letter && dim.whole);
      if (whole) expect(complaints.join("\n")).toContain(`needs dimension ${letter} whole`);
      else expect(complaints).toEqual([]);
    }
  });
});

describe("what moves a layout or has a body gives the whole result rank by rank", () => {
  const moved = opNames
    .filter((op) => isMoved(op))
    .flatMap((op) =>
      samples[op].map((sample, i) => ({ title: `${op} ${i}: ${sample.types.join(", ")}`, op, sample })),
    );
  test.each(moved)("$title", ({ op, sample }) => {
    const { graph, given } = ready(prepare(op, sample, "f32"));
    expect(verify(graph, ["typed", "laid-out"]).map(printComplaint)).toEqual([]);
    expectSame(graph, given, interpret(graph, given).outputs);
  });
});
