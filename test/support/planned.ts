/** @file Plans of graphs for a machine without kernels: every op may ask for scratch, none is compiled. */
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import { planMemory } from "../../src/passes/plan-memory.ts";
import { schedule } from "../../src/passes/schedule.ts";
import { arraysFor } from "./decoders.ts";
import { expectClose } from "./expect.ts";
import { random } from "./random.ts";
import { runPlan } from "./run-plan.ts";

/** A value from outside that a tile reads, and one that it hands out. */
export const LOOPED = `graph g {
  input %x : f32[1, 8, 4]
  input %w : f32[4, 4]
  %v = silu %w : f32[4, 4]
  %y = tile %x, %v tiles=4 split=[1, -1] join=[1] : f32[1, 8, 4] {
    param %a : f32[1, 2, 4]
    param %b : f32[4, 4]
    %c = matmul %a, %b : f32[1, 2, 4]
    %d = silu %c : f32[1, 2, 4]
    %e = exp %d : f32[1, 2, 4]
    return %e
  }
  %z = sum %y dims=[1] : f32[1, 4]
  return out = %z
}`;

/** Products need scratch, so that it takes part in what is planned. */
const target = { workspaceBytes: ({ op }: { op: string }): number => (op === "matmul" ? 512 : 0) };

/** The plan of a graph or of its text. */
export function planned(graph: Graph | string): Plan {
  return planMemory(schedule(typeof graph === "string" ? parse(graph) : graph, target));
}

/** Plans, looks for races, and runs the plan with lanes in several orders: its numbers are the graph's. */
export function expectFaithful(given: Graph | string, arrays?: ReadonlyMap<string, NDArray>): Plan {
  const graph = typeof given === "string" ? parse(given) : given;
  const plan = planned(graph);
  const races = findRaces(plan);
  if (races.length > 0) throw new Error(races.map(({ message }) => message).join("\n"));
  const values = arrays ?? arraysFor(graph);
  const want = interpret(graph, values);
  for (let seed = 0; seed < 4; seed++) {
    const next = random(seed);
    const got = runPlan(plan, values, (count) => Math.floor(next() * count));
    expectClose(got.outputs, want.outputs, 1e-9);
    expectClose(got.kept, want.updates, 1e-9);
  }
  return plan;
}
