/** @file The verifier against everything that can be wrong with a plan but its waits and lifetimes. */
import { expect, test } from "vitest";
import type { Plan } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";
import { mutations, mutationsOfUsed } from "../support/mutations.ts";
import { LOOPED, planned } from "../support/planned.ts";

const throughFile = planned(`graph g {
  input %x : f32[64]
  %a = silu %x : f32[64]
  %a.host = offload %a : f32<host>[64]
  %a.file = spill %a.host : f32<file>[64]
  %b = exp %x : f32[64]
  %c = tanh %b : f32[64]
  %d = neg %c : f32[64]
  %e = sum %d dims=[0] : f32[]
  %a.there = fetch %a.file : f32<host>[64]
  %a.back = reload %a.there : f32[64]
  %f = mul %a.back, %d : f32[64]
  return sum = %e
  return out = %f
}`);

const copiesInLoop = planned(`graph g {
  input %x : f32[1, 8, 4]
  input %w : f32[4, 4]
  %y = tile %x, %w tiles=4 split=[1, -1] join=[1] : f32[1, 8, 4] {
    param %a : f32[1, 2, 4]
    param %b : f32[4, 4]
    %c = matmul %a, %b : f32[1, 2, 4]
    %c.host = offload %c : f32<host>[1, 2, 4]
    %d = silu %a : f32[1, 2, 4]
    %c.back = reload %c.host : f32[1, 2, 4]
    %e = add %d, %c.back : f32[1, 2, 4]
    return %e
  }
  %z = sum %y dims=[1] : f32[1, 4]
  return out = %z
}`);

/** A training step with tiles, layers that are computed again, and what they keep in host memory and in the file. */
const kinds = ["attention layers", "mlp", "norm"] as const;
const blocks = kinds.map((kind) => ({ kind, a: 0, b: 1 }));
const stages = runPipeline(
  decoder({ ...PLAIN, blocks }),
  trainingPipeline({
    ...TRAINING,
    checkpointing: "layer",
    offloadLayers: 9,
    spillLayers: 9,
    lossTiles: 2,
    optimizerStates: "host",
  }),
);
const step = planned(stages[stages.length - 1].graph);

const plans: readonly [string, Plan][] = [
  ["through the file", throughFile],
  ["copies in a loop", copiesInLoop],
  ["a loop", planned(LOOPED)],
  ["a training step", step],
];

test.each(plans)("%s as planned has no fault", (_, plan) => {
  expect(findRaces(plan)).toEqual([]);
});

test.each(Object.entries({ ...mutations, ...mutationsOfUsed }))("is caught: %s", (_, mutate) => {
  const mutants = plans.flatMap(([name, plan]) => mutate(plan).map((own) => [name, ...own] as const));
  expect(mutants.length).toBeGreaterThan(0);
  const passed = mutants.filter(([, , plan]) => findRaces(plan).length === 0);
  expect(passed.map(([name, where]) => `${name}: ${where}`)).toEqual([]);
});

test("messages say what is wrong with numbers", () => {
  const plan = planned(LOOPED);
  const messageOf = (name: string) => {
    const [, mutant] = { ...mutations, ...mutationsOfUsed }[name](plan)[0];
    return findRaces(mutant)[0].message;
  };
  expect(messageOf("reads beyond a buffer")).toBe(
    "step 0 takes bytes 4 to 68 of device memory for %w, whose buffer has 64 of device memory",
  );
  expect(messageOf("a buffer between alignments")).toBe("%x begins at 4, not at a multiple of 256");
  expect(messageOf("an arena too small")).toBe("%c ends at 1824, behind the 1792 bytes of the device arena");
  expect(messageOf("scratch over an operand")).toBe(
    "step 1 writes %c.workspace over %x, which matmul still needs",
  );
  expect(messageOf("every turn writes where the first one did")).toBe(
    "step 4 uses %y, not all of which is written yet",
  );
  expect(messageOf("a loop that ends a step early")).toBe(
    "step 3 says to be in loops [0]; those around it are []",
  );
});
