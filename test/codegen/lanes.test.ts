/** @file Lanes in generated code: waits and signals at the borders of loops, and the numbers of programs that need them. */
import { expect, test } from "vitest";
import { emitCpu } from "../../src/codegen/cpu/emit.ts";
import { cpuTarget } from "../../src/codegen/cpu/target.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { planMemory } from "../../src/passes/plan-memory.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { schedule } from "../../src/passes/schedule.ts";
import { planFor, runCompiled } from "../support/compiled.ts";
import { arraysFor, decoder, PLAIN, TRAINING } from "../support/decoders.ts";
import { expectClose } from "../support/expect.ts";

/** g++ on a busy machine. */
const BUILD_MS = 180_000;

/** Copies before, inside and behind loops in loops; what is copied in one turn is overwritten in the next. */
const copies = parse(`graph copies {
  input %x : 3 x f32[8, 64]
  input %far : f32<host>[64, 64]
  %w = reload %far : f32[64, 64]
  %zero = constant dims=[8, 64] : f32[8, 64]
  %far.zero = offload %zero : f32<host>[8, 64]
  %y, %last = repeat %zero, %far.zero, %x, %w times=3 carry=2 : f32[8, 64], f32<host>[8, 64] {
    param %sum : f32[8, 64]
    param %before : f32<host>[8, 64]
    param %part : f32[8, 64]
    param %w : f32[64, 64]
    %e = exp %part : f32[8, 64]
    %e.host = offload %e : f32<host>[8, 64]
    %near = reload %before : f32[8, 64]
    %p = tile %e, %near, %w tiles=4 split=[0, 0, -1] join=[0] : f32[8, 64] {
      param %rows : f32[2, 64]
      param %old : f32[2, 64]
      param %w : f32[64, 64]
      %h = matmul %rows, %w : f32[2, 64]
      %h.host = offload %h : f32<host>[2, 64]
      %t = tanh %old : f32[2, 64]
      %h.near = reload %h.host : f32[2, 64]
      %r = add %h.near, %t : f32[2, 64]
      return %r
    }
    %next = add %sum, %p : f32[8, 64]
    return %next, %e.host
  }
  %z = offload %y : f32<host>[8, 64]
  return out = %z
  return last = %last
}`);

const lanesOf = (plan: Plan): string => {
  const program = emitCpu(plan, { threads: 2, modelFlops: 0 }).find(({ path }) => path === "program.cc");
  return program?.text ?? "";
};

test("a lane waits in front of a loop and signals behind it", () => {
  const text = lanesOf(planFor(copies));
  const compute = text.slice(
    text.indexOf("void compute(Rank& rank)"),
    text.indexOf("void to_host(Rank& rank)"),
  );
  expect(compute).toMatch(/\.wait\(1\);\n +for \(turn\[0\]/);
  expect(compute).toMatch(/\.wait\(turn\[0\] \+ 1\);\n +for \(turn\[1\]/);
  expect(compute).toMatch(/^ {2}\}\n {2}rank\.events\[\d+\]\.signal\(\);/m);
});

test(
  "copies around and inside loops of a compiled program give the graph's numbers",
  async () => {
    const arrays = arraysFor(copies);
    const want = interpret(copies, arrays);
    const got = await runCompiled(copies, arrays);
    expectClose(got.outputs, want.outputs, 1e-5);
  },
  BUILD_MS,
);

/** The plan with everything on one lane, where nothing has to wait. */
function onOneLane(graph: Graph): Plan {
  const plan = schedule(graph, cpuTarget(graph.mesh, 1));
  return planMemory({ ...plan, steps: plan.steps.map((step) => ({ ...step, lane: "compute" })) });
}

test(
  "collectives on a lane of their own give the same bits, tiles and micro batches in loops",
  async () => {
    const blocks = (["attention", "mlp", "attention"] as const).map((kind) => ({ kind, a: 0, b: 1 }));
    const graph = decoder({ ...PLAIN, batch: 1, sequence: 8, group: 2, blocks }, new Map([["sp", 2]]));
    const stages = runPipeline(
      graph,
      trainingPipeline({ ...TRAINING, gradientAccumulationSteps: 3, lossTiles: 2, checkpointing: "layer" }),
    );
    const program = stages[stages.length - 1].graph;
    const plan = planFor(program, 1);
    expect(new Set(plan.steps.map(({ lane }) => lane))).toEqual(new Set(["compute", "comm"]));
    expect(plan.steps.some(({ lane, loops }) => lane === "comm" && loops.length > 0)).toBe(true);
    const arrays = arraysFor(program);
    const apart = await runCompiled(program, arrays, 1, "cpu", plan);
    expect(apart).toEqual(await runCompiled(program, arrays, 1, "cpu", onOneLane(program)));
  },
  BUILD_MS,
);
