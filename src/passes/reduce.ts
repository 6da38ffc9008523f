/**
 * @file Sums what is still partial: a value of which every rank holds a part of the sum gets an all_reduce where the
 * whole is needed.
 *
 *     %d.w = matmul %d.y, %x transpose_a=true      : f32[16, 4]{sum@dp@sp}
 *     return d.w = %d.w
 *
 *   becomes
 *
 *     %d.w.1 = all_reduce %d.w axis=dp             : f32[16, 4]{sum@sp}
 *     %d.w.2 = all_reduce %d.w.1 axis=sp           : f32[16, 4]
 *     return d.w = %d.w.2
 *
 * Gradients are of sums, so adding those of all ranks is all there is to data and sequence parallelism: a rank without a
 * labelled token adds zeros, and nothing is scaled by the number of ranks. Behind accumulate, so that ranks exchange
 * once a step and not once a micro batch. Sums are in f32, in the order of the ranks: the same on every run.
 */
import { Builder, building } from "../ir/build.ts";
import type { Value } from "../ir/graph.ts";
import { ops } from "../ir/ops/index.ts";
import { definePass } from "./pass.ts";

export const reduce = definePass({
  name: "reduce",
  summary: "adds up over the ranks what each holds a part of",
  numerics: "reordered",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    if (graph.outputs.every(({ value }) => value.type.partial.length === 0)) return graph;
    const builder = Builder.continuing(graph);
    const whole = (value: Value): Value =>
      value.type.partial.reduce((sum, axis) => ops.all_reduce(sum, { axis }), value);
    const outputs = building(builder, () =>
      graph.outputs.map((output) => ({ ...output, value: whole(output.value) })),
    );
    return { ...graph, nodes: builder.nodes, outputs };
  },
});
