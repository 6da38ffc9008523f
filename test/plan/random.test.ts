/** @file Plans of random programs: any mix of shapes, loops, copies and updates computes on its arenas what the graph says. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Builder, building } from "../../src/ir/build.ts";
import type { Graph, Value } from "../../src/ir/graph.ts";
import { ops, recordOf } from "../../src/ir/ops/index.ts";
import { peak } from "../../src/ir/plan.ts";
import { print } from "../../src/ir/print.ts";
import { findRaces } from "../../src/ir/race.ts";
import { tensor } from "../../src/ir/type.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";
import { runs } from "../support/fuzz.ts";
import { mutations } from "../support/mutations.ts";
import { expectFaithful, planned } from "../support/planned.ts";

const KINDS = [
  "neg",
  "exp",
  "add",
  "mul",
  "product",
  "heads",
  "turned",
  "half",
  "total",
  "away",
  "file",
  "tile",
  "repeat",
] as const;
type Kind = (typeof KINDS)[number];

interface Line {
  readonly kind: Kind;
  /** Which of the values so far; counted from the last one. */
  readonly a: number;
  readonly b: number;
  readonly c: number;
}

const line: fc.Arbitrary<Line> = fc.record({
  kind: fc.constantFrom(...KINDS),
  a: fc.nat({ max: 6 }),
  b: fc.nat({ max: 6 }),
  c: fc.nat({ max: 6 }),
});
const recipe = fc.record({
  lines: fc.array(line, { minLength: 1, maxLength: 12 }),
  outputs: fc.array(fc.nat({ max: 6 }), { minLength: 1, maxLength: 3 }),
  updates: fc.array(fc.nat({ max: 6 }), { maxLength: 2 }),
});

/** Copies beside and inside loops. */
const OFFLOADED: readonly Line[] = (["away", "file", "repeat", "file", "away"] as const).map((kind, a) => ({
  kind,
  a,
  b: 2,
  c: 1,
}));

const ROWS = 4;
const WIDTH = 4;
const type = tensor("f32", [ROWS, WIDTH]);

/** A coin that the names of two values toss. */
const isOdd = (a: Value, b: Value): boolean => (a.name.length + b.name.length) % 2 === 1;

const throughFile = (x: Value): Value => ops.reload(ops.fetch(ops.spill(ops.offload(x))));

/** One statement on values of [4, 4]; `x`, `y` and `z` may be the same. */
function statement(kind: Kind, x: Value, y: Value, z: Value, builder: Builder, depth: number): Value[] {
  switch (kind) {
    case "neg":
      return [ops.neg(x)];
    case "exp":
      return [ops.tanh(ops.exp(ops.tanh(x)))];
    case "add":
      return [ops.add(x, y)];
    case "mul":
      return [ops.tanh(ops.mul(x, y))];
    case "product":
      return [ops.tanh(ops.matmul(x, y))];
    case "heads":
      return [ops.merge_heads(ops.neg(ops.split_heads(x, { heads: 2 })))];
    case "turned":
      return [ops.transpose(x, { order: [1, 0] }), ops.merge_heads(ops.split_heads(y, { heads: 4 }))];
    case "half":
      return [ops.cast(ops.neg(ops.cast(x, { dtype: "bf16" })), { dtype: "f32" })];
    case "total":
      return [ops.broadcast(ops.sum(x, { dims: [0] }), { dims: [0], sizes: [ROWS, WIDTH] })];
    case "away":
      return [ops.reload(ops.offload(x))];
    case "file":
      return [throughFile(x)];
    case "tile": {
      const { body } = region(
        builder,
        [
          [ROWS / 2, WIDTH],
          [ROWS, WIDTH],
        ],
        ([part, other]) => {
          const rows = ops.tanh(ops.matmul(part, other));
          const kept = isOdd(x, y) ? throughFile(rows) : rows;
          return [kept, ops.sum(rows, { dims: [0] })];
        },
      );
      const attrs = { tiles: 2, split: [0, -1], join: [0, -1] };
      const [rows, sums] = builder.add(recordOf("tile"), [x, y], attrs, { body }).results;
      return [rows, ops.add(z, sums)];
    }
    case "repeat": {
      const sizes = [type, type, type].map(() => [ROWS, WIDTH]);
      const { body } = region(builder, sizes, ([p, q, r], inner) => {
        const far = isOdd(y, z) ? ops.spill(ops.offload(q)) : null;
        const [next] = depth > 0 ? [ops.add(p, r)] : statement("tile", p, r, q, inner, depth + 1);
        const near = far ? ops.reload(ops.fetch(far)) : q;
        return isOdd(x, z) ? [ops.tanh(ops.add(next, near)), p] : [near, ops.tanh(next)];
      });
      return [...builder.add(recordOf("repeat"), [x, y, z], { times: 3, carry: 2 }, { body }).results];
    }
  }
}

function region(
  builder: Builder,
  sizes: readonly number[][],
  make: (params: readonly Value[], inner: Builder) => readonly Value[],
) {
  const inner = new Builder(builder.mesh);
  const params = sizes.map((own, i) => ({ name: inner.unique(`p${i}`), type: tensor("f32", own) }));
  const returns = building(inner, () => make(params, inner));
  return { body: inner.region(params, returns) };
}

function program({
  lines,
  outputs,
  updates,
}: {
  lines: Line[];
  outputs: number[];
  updates: number[];
}): Graph {
  const builder = new Builder(new Map());
  const weights = ["w", "v"].map((name) => builder.param("param", name, type, "zeros"));
  const pool = [builder.param("input", "x", type), ...weights];
  const pick = (at: number): Value => pool[pool.length - 1 - (at % pool.length)];
  building(builder, () => {
    for (const { kind, a, b, c } of lines) {
      builder.serving = kind;
      pool.push(...statement(kind, pick(a), pick(b), pick(c), builder, 0));
    }
  });
  const made = new Set(builder.nodes.flatMap((node) => node.results));
  const changed = updates.map(pick).filter((value) => made.has(value));
  return {
    name: "random",
    mesh: new Map(),
    params: builder.params,
    nodes: builder.nodes,
    outputs: outputs
      .map((at, i) => ({ name: `out${i}`, value: pick(at) }))
      // What a parameter holds when the step is over is its new value.
      .filter(({ value }) => !weights.slice(0, changed.length).includes(value)),
    updates: changed.map((value, i) => ({ param: weights[i], value })),
  };
}

test("a plan computes what the graph says, and its arena is close to the lower bound", () => {
  const ratios: number[] = [];
  fc.assert(
    fc.property(recipe, (own) => {
      const graph = program(own);
      try {
        expect(verify(graph).map(printComplaint)).toEqual([]);
        const plan = expectFaithful(graph);
        expect(plan.deviceLowerBound).toBe(peak(plan).bytes);
        ratios.push(plan.deviceBytes / Math.max(1, plan.deviceLowerBound));
      } catch (error) {
        (error as Error).message += `\n\n${print(graph)}`;
        throw error;
      }
    }),
    runs(150),
  );
  const mean = ratios.reduce((sum, ratio) => sum + ratio, 0) / ratios.length;
  expect(mean).toBeLessThan(1.05);
});

test("a wait left out, and two buffers put at one place while both are alive, are caught", () => {
  let [waits, clashes, turns] = [0, 0, 0];
  fc.assert(
    fc.property(recipe, fc.nat(), fc.nat(), ({ lines, ...rest }, one, two) => {
      const plan = planned(program({ lines: [...lines, ...OFFLOADED], ...rest }));
      for (const { index, waits: all } of plan.steps) {
        for (const left of all) {
          waits++;
          if (left > index) turns++;
          const steps = plan.steps.map((step) =>
            step.index === index ? { ...step, waits: all.filter((own) => own !== left) } : step,
          );
          const messages = findRaces({ ...plan, steps }).map(({ message }) => message);
          expect(messages.join("\n"), `step ${index} without its wait for ${left}`).toMatch(
            /are not ordered/,
          );
        }
      }
      const [a, b] = [one, two].map((at) => plan.buffers[at % plan.buffers.length]);
      const together = a.persistent || b.persistent || (a.first <= b.last && b.first <= a.last);
      if (a === b || a.memory !== b.memory || !together) return;
      clashes++;
      const buffers = plan.buffers.map((own) => (own === a ? { ...own, offset: b.offset } : own));
      expect(findRaces({ ...plan, buffers })).not.toEqual([]);
    }),
    runs(60),
  );
  expect(Math.min(waits, clashes, turns)).toBeGreaterThan(4);
});

test("whatever else is changed about a plan is caught", () => {
  const seen = new Set<string>();
  fc.assert(
    fc.property(recipe, fc.nat(), ({ lines, ...rest }, at) => {
      const plan = planned(program({ lines: [...lines, ...OFFLOADED], ...rest }));
      for (const [name, mutate] of Object.entries(mutations)) {
        const mutants = mutate(plan);
        if (mutants.length === 0) continue;
        const [where, mutant] = mutants[at % mutants.length];
        seen.add(name);
        expect(findRaces(mutant), `${name}: ${where}`).not.toEqual([]);
      }
    }),
    runs(60),
  );
  expect([...seen].sort()).toEqual(Object.keys(mutations).sort());
});
