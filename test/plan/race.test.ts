/** @file The race verifier against plans that were right until somebody changed one thing. */
import { describe, expect, test } from "vitest";
import type { Buffer, Plan, Step } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";
import { LOOPED, planned } from "../support/planned.ts";

const twoLanes = planned(`graph g {
  input %x : f32[64]
  %a = silu %x : f32[64]
  %a.host = offload %a : f32<host>[64]
  %b = exp %x : f32[64]
  %c = tanh %b : f32[64]
  %c.host = offload %c : f32<host>[64]
  %d = neg %x : f32[64]
  %e = sum %d dims=[0] : f32[]
  %c.back = reload %c.host : f32[64]
  %a.back = reload %a.host : f32[64]
  %f = mul %a.back, %c.back : f32[64]
  return sum = %e
  return out = %f
}`);

const loops = planned(LOOPED);

const blocks = ["attention", "mlp", "add", "norm"] as const;
const stages = runPipeline(
  decoder({ ...PLAIN, blocks: blocks.map((kind) => ({ kind, a: 0, b: 1 })) }),
  trainingPipeline(TRAINING),
);
const decoderPlan = planned(stages[stages.length - 1].graph);

const messages = (plan: Plan): string[] => findRaces(plan).map(({ message }) => message);

function withBuffer(plan: Plan, at: number, change: Partial<Buffer>): Plan {
  return { ...plan, buffers: plan.buffers.map((own, i) => (i === at ? { ...own, ...change } : own)) };
}

function withStep(plan: Plan, at: number, change: Partial<Step>): Plan {
  return { ...plan, steps: plan.steps.map((own, i) => (i === at ? { ...own, ...change } : own)) };
}

const plans: readonly [string, Plan][] = [
  ["two lanes", twoLanes],
  ["a loop", loops],
  ["a training step", decoderPlan],
];

test.each(plans)("%s as planned has no race", (_, plan) => {
  expect(messages(plan)).toEqual([]);
});

describe("is caught", () => {
  test("any one wait that is left out, none being there for nothing", () => {
    const waiting = twoLanes.steps.filter(({ waits }) => waits.length > 0);
    expect(waiting.length).toBeGreaterThan(3);
    for (const { index, waits } of waiting) {
      for (const left of waits) {
        const plan = withStep(twoLanes, index, { waits: waits.filter((own) => own !== left) });
        expect(messages(plan).join("\n")).toMatch(/touch the same bytes and are not ordered/);
      }
    }
  });

  test.each(plans)("any one buffer that dies a step early, or is born a step late: %s", (_, plan) => {
    plan.buffers.forEach(({ persistent, first, last }, at) => {
      if (persistent) return;
      // What goes to the host keeps its bytes longer than it is read, and only for speed.
      const { inputs, outputs, workspace } = plan.steps[last];
      const isUsed = [...inputs, ...outputs, workspace].some((slot) => slot?.buffer === at);
      if (isUsed) expect(messages(withBuffer(plan, at, { last: last - 1 })), `buffer ${at}`).not.toEqual([]);
      expect(messages(withBuffer(plan, at, { first: first + 1 })), `buffer ${at}`).not.toEqual([]);
    });
  });

  test.each(plans)("any two buffers put at one place while both are alive: %s", (_, plan) => {
    plan.buffers.forEach((a, at) => {
      plan.buffers.forEach((b, other) => {
        const together = a.persistent || b.persistent || (a.first <= b.last && b.first <= a.last);
        if (at === other || a.memory !== b.memory || !together) return;
        expect(messages(withBuffer(plan, at, { offset: b.offset })), `${at} onto ${other}`).not.toEqual([]);
      });
    });
  });

  test("a lifetime that ends with its last reader inside a loop, in which it is read again", () => {
    const at = loops.buffers.findIndex(({ name }) => name === "v");
    const reader = loops.steps.find(({ node }) => node.op === "matmul")?.index as number;
    expect(messages(withBuffer(loops, at, { last: reader }))).toEqual([
      `step ${reader} uses %v, which lives from step 0 to ${reader}, only a part of the loop from 1 to 3`,
    ]);
  });

  test("a value that is read before it is made", () => {
    const [first, second, ...rest] = decoderPlan.steps;
    const swapped = [{ ...second, index: 0 }, { ...first, index: 1 }, ...rest];
    expect(messages({ ...decoderPlan, steps: swapped }).join("\n")).toMatch(
      /nothing has written yet|belong to it only/,
    );
  });

  test("a wait that no other lane could end", () => {
    const message = (at: number, waits: readonly number[]) =>
      messages(withStep(twoLanes, at, { waits })).join();
    const [a, host] = ["silu", "offload"].map(
      (op) => twoLanes.steps.find(({ node }) => node.op === op)?.index,
    );
    expect(message(a as number, [host as number])).toMatch(
      /step \d+ \(compute\) waits for step \d+ \(to_host\), which comes later, and no loop is around both/,
    );
    const last = twoLanes.steps.length - 1;
    expect(message(last, [...twoLanes.steps[last].waits, a as number])).toMatch(/which is on the same lane/);
  });
});
