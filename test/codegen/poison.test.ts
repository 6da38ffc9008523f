/** @file The debug build that fills bytes of nobody with NaN: finds nothing in what the compiler makes, and finds what is wrong. */
import { describe, expect, test } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import type { Plan, Slot } from "../../src/ir/plan.ts";
import { type TrainingOptions, trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { planFor, runCompiled } from "../support/compiled.ts";
import { arraysFor, decoder, PLAIN, type Recipe, TRAINING } from "../support/decoders.ts";

const minutes = 60_000;

const recipe: Recipe = {
  ...PLAIN,
  ...{ sequence: 8, kvHeads: 2, headDim: 4, vocabulary: 11 },
  blocks: (["attention", "mlp", "layers", "layers", "norm"] as const).map((kind) => ({ kind, a: 0, b: 0 })),
};

function trained(degree: number, changes: Partial<TrainingOptions>): Graph {
  const mesh = new Map(degree === 1 ? [] : [["sp", degree]]);
  const stages = runPipeline(decoder(recipe, mesh), trainingPipeline({ ...TRAINING, ...changes }));
  return stages[stages.length - 1].graph;
}

const poisonedRun = (
  graph: Graph,
  arrays: ReadonlyMap<string, NDArray>,
  threads: number,
  plan = planFor(graph, threads),
) => runCompiled(graph, arrays, threads, "cpu", plan, "cpu", true);

describe("a poisoned program", () => {
  test.each<[string, number, Partial<TrainingOptions>]>([
    ["with everything kept", 1, {}],
    ["in tiles with a smaller last one", 1, { lossTiles: 3, mlpTiles: 3, projectionTiles: 3 }],
    [
      "of recomputed layers whose inputs wait on the host and in a file",
      1,
      { checkpointing: "layer", offloadLayers: 9, spillLayers: 9 },
    ],
    ["on two ranks, in loops in loops", 2, { gradientAccumulationSteps: 2, lossTiles: 2, mlpTiles: 2 }],
  ])(
    "%s computes what the program does, to the last bit",
    { timeout: 5 * minutes },
    async (_, degree, changes) => {
      const graph = trained(degree, changes);
      const arrays = arraysFor(graph);
      const threads = degree === 1 ? 2 : 1;
      expect(planFor(graph, threads).fileBytes > 0).toBe(changes.spillLayers !== undefined);
      const plain = await runCompiled(graph, arrays, threads);
      const poisoned = await poisonedRun(graph, arrays, threads);
      expect(poisoned.outputs).toEqual(plain.outputs);
      expect(poisoned.updates).toEqual(plain.updates);
      for (const values of poisoned.outputs.values()) expect(values.every(Number.isFinite)).toBe(true);
    },
  );

  test("computes NaN where a value is read after its bytes were given away", {
    timeout: 5 * minutes,
  }, async () => {
    const graph = parse(`graph g {
      input %x : f32[8, 8]
      %a = matmul %x, %x : f32[8, 8]
      %b = matmul %a, %x : f32[8, 8]
      %c = matmul %b, %a : f32[8, 8]
      return out = %c
    }`);
    const arrays = arraysFor(graph);
    const sound = await poisonedRun(graph, arrays, 1);
    expect(sound.outputs.get("out")?.every(Number.isFinite)).toBe(true);
    const faulty = await poisonedRun(graph, arrays, 1, unknownReader(planFor(graph, 1), "a", "c"));
    expect(faulty.outputs.get("out")?.some(Number.isNaN)).toBe(true);
  });
});

/** The plan as if nobody knew that the maker of `reader` reads `value`: it finds the same bytes by another way. */
function unknownReader(plan: Plan, value: string, reader: string): Plan {
  const at = plan.buffers.findIndex(({ name }) => name === value);
  const hidden = { ...plan.buffers[at], persistent: true };
  const redirect = (slot: Slot): Slot =>
    slot.buffer === at ? { ...slot, buffer: plan.buffers.length } : slot;
  return {
    ...plan,
    buffers: [...plan.buffers, hidden],
    steps: plan.steps.map((step) =>
      step.node.results[0].name === reader ? { ...step, inputs: step.inputs.map(redirect) } : step,
    ),
  };
}
