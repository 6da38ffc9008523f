/** @file Laws of the training pipeline under random programs: whatever passes run, the numbers are the model's. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import { allNodes, type Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { accumulate } from "../../src/passes/accumulate.ts";
import { differentiate } from "../../src/passes/differentiate.ts";
import { fuse } from "../../src/passes/fuse.ts";
import { possibleGroups } from "../../src/passes/head-groups.ts";
import { type TrainingOptions, trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { simplify } from "../../src/passes/simplify.ts";
import { tileLoss } from "../../src/passes/tile-loss.ts";
import { unroll } from "../../src/passes/unroll.ts";
import { planFor } from "../support/compiled.ts";
import { arraysFor, decoder, onGraph, PLAIN, type Recipe, recipes, TRAINING } from "../support/decoders.ts";
import { expectClose } from "../support/expect.ts";
import { runs } from "../support/fuzz.ts";
import { random } from "../support/random.ts";
import { runPlan } from "../support/run-plan.ts";

const differentiated = (graph: Graph): Graph =>
  differentiate.run(unroll.run(graph, {}), { loss: "loss_sum" });

/** The last graph of a pipeline; every stage is verified on the way and must read back from its text. */
function trained(graph: Graph, changes: Partial<TrainingOptions> = {}): Graph {
  const stages = runPipeline(graph, trainingPipeline({ ...TRAINING, ...changes }));
  for (const stage of stages) {
    const text = print(stage.graph);
    expect(print(parse(text)), `after ${stage.pass}`).toBe(text);
  }
  return stages[stages.length - 1].graph;
}

/** Groups of heads, at most `most`, where attention can be done in groups. */
function groupsOf(graph: Graph, most: number): number {
  return Math.max(...possibleGroups(graph).filter((groups) => groups <= most));
}

/** The same rows as `steps` micro batches: a family in place of a longer batch. */
function cut(arrays: ReadonlyMap<string, NDArray>, graph: Graph, steps: number): Map<string, NDArray> {
  const inputs = new Set(graph.params.filter(({ role }) => role === "input").map(({ value }) => value.name));
  return new Map(
    [...arrays].map(([name, { sizes, data }]) => {
      const [batch, ...rest] = sizes;
      return [name, inputs.has(name) ? { sizes: [steps, batch / steps, ...rest], data } : { sizes, data }];
    }),
  );
}

describe("the training pipeline", () => {
  test("simplify, tile-loss and fuse keep the loss and every gradient", () => {
    fc.assert(
      fc.property(recipes, (recipe) =>
        onGraph(recipe, (graph) => {
          const before = differentiated(graph);
          const arrays = arraysFor(before);
          const want = interpret(before, arrays);
          const simple = simplify.run(before, {});
          const tiled = tileLoss.run(simple, { tiles: 2, tile_bytes: 1 });
          for (const after of [simple, tiled, fuse.run(simple, {}), fuse.run(tiled, {})])
            expectClose(interpret(after, arrays).outputs, want.outputs, 1e-9);
        }),
      ),
      runs(60),
    );
  });

  test("accumulated micro batches are one long batch, whatever each one's number of labels", () => {
    const cases = fc.record({ recipe: recipes, steps: fc.constantFrom(2, 3) });
    fc.assert(
      fc.property(cases, ({ recipe, steps }) =>
        onGraph(recipe, (graph) => {
          const long = differentiated(decoder({ ...recipe, batch: recipe.batch * steps }));
          const arrays = arraysFor(long);
          const short = accumulate.run(simplify.run(differentiated(graph), {}), { steps });
          const got = interpret(short, cut(arrays, long, steps)).outputs;
          expectClose(got, interpret(long, arrays).outputs, 1e-9);
        }),
      ),
      runs(30),
    );
  });

  test("every stage verifies and reads back from its text; updates don't depend on tiles, checkpoints, offload and spill", () => {
    fc.assert(
      fc.property(recipes, (recipe) =>
        onGraph(recipe, (graph) => {
          const whole = trained(graph);
          const arrays = arraysFor(whole);
          const want = interpret(whole, arrays);
          for (const [checkpointing, offloadLayers, spillLayers] of [
            ["off", 0, 0],
            ["layer", Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY],
            ["attention", 1, 1],
          ] as const) {
            for (const tiles of [1, 2, 3]) {
              const headGroups = groupsOf(graph, tiles);
              const changes = { lossTiles: 3, mlpTiles: tiles, projectionTiles: tiles, headGroups };
              const away = { checkpointing, checkpointEvery: tiles, offloadLayers, spillLayers };
              const got = interpret(trained(graph, { ...changes, ...away }), arrays);
              expectClose(got.outputs, want.outputs, 1e-9);
              expectClose(got.updates, want.updates, 1e-9);
            }
          }
        }),
      ),
      runs(25),
    );
  });

  test.each([1, 2])(
    "attention in groups of heads, its sequence shared by %i ranks, is attention",
    (degree) => {
      const recipe: Recipe = {
        ...PLAIN,
        ...{ kvHeads: 4, blocks: [{ kind: "attention", a: 0, b: 0 }] },
      };
      const mesh = new Map(degree === 1 ? [] : [["sp", degree]]);
      const arrays = arraysFor(trained(decoder(recipe)));
      const want = interpret(trained(decoder(recipe)), arrays);
      for (const checkpointing of ["off", "layer"] as const) {
        for (const groups of [2, 4]) {
          const program = trained(decoder(recipe, mesh), { headGroups: groups, checkpointing });
          const inLoops = allNodes(program.nodes.filter(({ op }) => op === "tile"));
          expect(inLoops.filter(({ op }) => op === "attention").length).toBe(2);
          expect(inLoops.some(({ op }) => op === "all_to_all")).toBe(degree > 1);
          const got = interpret(program, arrays, { byRank: degree > 1 });
          expectClose(got.outputs, want.outputs, 1e-9);
          expectClose(got.updates, want.updates, 1e-9);
        }
      }
    },
  );

  test("bf16 changes types, not the program: in float64 its numbers are the same", () => {
    fc.assert(
      fc.property(recipes, (recipe) =>
        onGraph(recipe, (graph) => {
          const whole = trained(graph);
          const arrays = arraysFor(whole);
          const half = trained(graph, { precision: "bf16" });
          expectClose(interpret(half, arrays).outputs, interpret(whole, arrays).outputs, 1e-9);
        }),
      ),
      runs(25),
    );
  });

  test("ranks that share the batch and the sequence compute what one rank does", () => {
    // A tile and a table made on the spot are of whole sizes: they don't follow the inputs' layout.
    const follows = (kind: string) => kind !== "tile" && kind !== "attention layers";
    fc.assert(
      fc.property(
        recipes,
        fc.constantFrom("off" as const, "attention" as const),
        fc.constantFrom(1, 2, 4),
        (any, checkpointing, tiles) => {
          const blocks = any.blocks.filter(({ kind }) => follows(kind));
          const recipe = { ...any, batch: 2, sequence: 4, group: 2, blocks };
          const mesh = new Map([
            ["dp", 2],
            ["sp", 2],
          ]);
          onGraph(recipe, (graph) => {
            const shared = trained(decoder(recipe, mesh), {
              checkpointing,
              mlpTiles: tiles,
              projectionTiles: tiles,
              headGroups: groupsOf(decoder(recipe, mesh), tiles),
            });
            const arrays = arraysFor(shared);
            const got = interpret(shared, arrays, { byRank: true });
            const want = interpret(trained(graph), arrays);
            expectClose(got.outputs, want.outputs, 1e-9);
            expectClose(got.updates, want.updates, 1e-9);
          });
        },
      ),
      runs(20),
    );
  });

  test("simplify has nothing to do the second time", () => {
    fc.assert(
      fc.property(recipes, fc.boolean(), (recipe, half) =>
        onGraph(recipe, (graph) => {
          const lowered = runPipeline(
            graph,
            trainingPipeline({ ...TRAINING, precision: half ? "bf16" : "fp32" }),
            {
              stopAfter: "differentiate",
            },
          );
          const once = simplify.run(lowered[lowered.length - 1].graph, {});
          expect(simplify.run(once, {})).toBe(once);
        }),
      ),
      runs(60),
    );
  });
});

describe("the plan", () => {
  test("computes on its arenas what the graph says", () => {
    const cases = fc.record({
      recipe: recipes,
      steps: fc.constantFrom(1, 1, 2),
      lossTiles: fc.constantFrom(1, 3),
      mlpTiles: fc.constantFrom(1, 2, 3, 4),
      projectionTiles: fc.constantFrom(1, 2, 3),
      checkpointing: fc.constantFrom("off", "layer", "attention"),
      offloadLayers: fc.constantFrom(0, 1, Number.POSITIVE_INFINITY),
      spillLayers: fc.constantFrom(0, 1, Number.POSITIVE_INFINITY),
      checkpointEvery: fc.constantFrom(1, 2, 3),
    });
    fc.assert(
      fc.property(cases, ({ recipe, steps, ...rest }) =>
        onGraph(recipe, (graph) => {
          const headGroups = groupsOf(graph, rest.mlpTiles);
          const program = trained(graph, { gradientAccumulationSteps: steps, ...rest, headGroups });
          const arrays = arraysFor(program);
          const want = interpret(program, arrays);
          const got = runPlan(planFor(program), arrays, (count) => Math.floor(random(count)() * count));
          expectClose(got.outputs, want.outputs, 1e-9);
          expectClose(got.kept, want.updates, 1e-9);
        }),
      ),
      runs(40),
    );
  });
});
