/** @file What a pass must leave of the numbers, pass by pass: run both graphs in float64 and compare. */
import { expect } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { verify } from "../../src/ir/verify.ts";
import { arraysFor } from "../support/decoders.ts";
import { expectClose } from "../support/expect.ts";

const EXACT = 1e-12;

type Check = (before: Graph, after: Graph, options: Readonly<Record<string, unknown>>) => void;

/** Every output is still there and the same; rank by rank too, where ranks can run the graph. */
const same: Check = (before, after) => {
  const arrays = arraysFor(before);
  const [old, now] = [interpret(before, arrays), interpret(after, arrays)];
  expectClose(now.outputs, old.outputs, EXACT);
  expectClose(now.updates, old.updates, EXACT);
  if (after.mesh.size === 0 || verify(after, ["laid-out"]).length > 0) return;
  expectClose(interpret(after, arrays, { byRank: true }).outputs, old.outputs, EXACT);
};

/** As `same`, where member i of a family `a.*` goes by the name `a.i`. */
const unrolled: Check = (before, after) => {
  const arrays = new Map(arraysFor(before));
  for (const [name, { sizes, data }] of [...arrays]) {
    const [times, ...rest] = sizes;
    for (let i = 0; i < times && name.includes("*"); i++) {
      const size = data.length / times;
      arrays.set(name.replace("*", String(i)), { sizes: rest, data: data.slice(i * size, (i + 1) * size) });
    }
  }
  expectClose(interpret(after, arrays).outputs, interpret(before, arrays).outputs, EXACT);
};

/** Each micro batch alone, added up. */
const accumulated: Check = (before, after, { steps }) => {
  const arrays = arraysFor(after);
  const inputs = new Set(before.params.filter(({ role }) => role === "input").map(({ value }) => value.name));
  const totals = new Map<string, NDArray>();
  for (let i = 0; i < (steps as number); i++) {
    const one = new Map(
      [...arrays].map(([name, { sizes, data }]) => {
        if (!inputs.has(name) || steps === 1) return [name, { sizes, data }];
        const size = data.length / sizes[0];
        return [name, { sizes: sizes.slice(1), data: data.slice(i * size, (i + 1) * size) }];
      }),
    );
    for (const [name, { sizes, data }] of interpret(before, one).outputs) {
      const total = totals.get(name)?.data ?? new Float64Array(data.length);
      totals.set(name, { sizes, data: total.map((value, at) => value + data[at]) });
    }
  }
  expectClose(interpret(after, arrays).outputs, totals, EXACT);
};

const STEP = 1e-5;

/** The old outputs, and gradients that are the loss's slopes. */
const differentiated: Check = (before, after) => {
  same(before, after, {});
  const arrays = arraysFor(before);
  const gradients = interpret(after, arrays).outputs;
  const loss = (given: ReadonlyMap<string, NDArray>): number =>
    (interpret(before, given).outputs.get("loss_sum") as NDArray).data[0];
  for (const { value, role } of before.params) {
    if (role !== "param") continue;
    const weight = arrays.get(value.name) as NDArray;
    const slopes = weight.data.map((x, at) => {
      const [up, down] = [STEP, -STEP].map((step) =>
        loss(new Map([...arrays, [value.name, { ...weight, data: weight.data.with(at, x + step) }]])),
      );
      return (up - down) / (2 * STEP);
    });
    expectClose(gradients, new Map([[`d.${value.name}`, slopes]]), 1e-7);
  }
};

/** The mean loss, the norm of the mean gradient and AdamW as PyTorch's documentation writes them. */
const optimized: Check = (before, after, options) => {
  const { beta1, beta2, epsilon, weight_decay, max_grad_norm } = options as Record<string, number>;
  const arrays = arraysFor(after);
  const { outputs } = interpret(before, arrays);
  const number = (name: string): number => (outputs.get(name) as NDArray).data[0];
  const of = (name: string): Float64Array => (arrays.get(name) as NDArray).data;
  const tokens = number("loss_count");
  const weights = before.params.filter(({ role }) => role === "param").map(({ value }) => value);
  const means = weights.map(({ name }) => (outputs.get(`d.${name}`) as NDArray).data.map((d) => d / tokens));
  const norm = Math.sqrt(means.reduce((sum, own) => sum + own.reduce((total, d) => total + d * d, 0), 0));
  const clip = max_grad_norm > 0 ? Math.min(1, max_grad_norm / (norm + 1e-6)) : 1;
  const [rate, step] = [of("learning_rate")[0], of("step")[0]];
  const got = interpret(after, arrays);
  expectClose(
    got.outputs,
    new Map([
      ["loss", [number("loss_sum") / tokens]],
      ["grad_norm", [norm]],
      ["tokens", [tokens]],
    ]),
    EXACT,
  );
  weights.forEach(({ name, type }, i) => {
    const decay = type.dims.length >= 2 ? weight_decay : 0;
    const m = of(`adamw.m.${name}`).map((old, at) => beta1 * old + (1 - beta1) * clip * means[i][at]);
    const v = of(`adamw.v.${name}`).map((old, at) => beta2 * old + (1 - beta2) * (clip * means[i][at]) ** 2);
    const w = of(name).map((old, at) => {
      const [m_hat, v_hat] = [m[at] / (1 - beta1 ** step), v[at] / (1 - beta2 ** step)];
      return old - rate * decay * old - (rate * m_hat) / (Math.sqrt(v_hat) + epsilon);
    });
    expectClose(
      got.updates,
      new Map([
        [name, w],
        [`adamw.m.${name}`, m],
        [`adamw.v.${name}`, v],
      ]),
      1e-11,
    );
  });
  expect(got.updates.size).toBe(3 * weights.length);
};

const checks: Readonly<Record<string, Check>> = {
  unroll: unrolled,
  accumulate: accumulated,
  differentiate: differentiated,
  optimizer: optimized,
};

/** The check of a pass; for most that nothing changes. bf16 exists in types only, so float64 sees precision change nothing. */
export function numbersOf(pass: string): Check {
  return checks[pass] ?? same;
}
