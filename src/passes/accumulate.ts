/**
 * @file Gradient accumulation: the whole forward and backward becomes the body of a `repeat` over micro batches.
 *
 *     %d.w = ...                                   : f32[16, 4]
 *     return d.w = %d.w
 *
 *   becomes, for four micro batches,
 *
 *     %d.w.0 = constant dims=[16, 4]               : f32[16, 4]
 *     %d.w = repeat %d.w.0, %w, %input_ids times=4 carry=1 : f32[16, 4] {
 *       ...
 *       %d.w.sum = add %d.w.before, %d.w           : f32[16, 4]
 *       return %d.w.sum
 *     }
 *     return d.w = %d.w
 *
 * Inputs become families with one member per micro batch. Because gradients are of sums (see differentiate), adding
 * them weighs every labelled token alike, however the tokens are shared out: the mean is that of one large batch. The
 * price is one f32 gradient per parameter that lives as long as the step.
 */
import { Builder, building } from "../ir/build.ts";
import type { Graph, Param, Value } from "../ir/graph.ts";
import { ops, recordOf } from "../ir/ops/index.ts";
import { sizesOf } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const accumulate = definePass({
  name: "accumulate",
  summary: "runs forward and backward once for each micro batch and adds up the gradients",
  numerics: "reordered",
  requires: ["differentiated"],
  establishes: [],
  options: { steps: 1 },

  run(graph, { steps }) {
    if (steps === 1) return graph;
    const outer = new Builder(graph.mesh);
    const params = graph.params.map((param): Param => {
      const { value, role } = param;
      const type = role === "input" ? { ...value.type, times: steps } : value.type;
      return { ...param, value: { name: outer.unique(value.name), type } };
    });
    const totals = graph.outputs.map(({ value }) => outer.unique(value.name));
    const start = building(outer, () =>
      graph.outputs.map(({ value: { name, type } }) =>
        ops.constant(
          { dims: sizesOf(type), dtype: type.dtype, partial: type.partial.join(".") },
          { name: `${name}.0` },
        ),
      ),
    );
    const body = bodyOf(graph);
    const results = building(outer, () =>
      outer.add(
        recordOf("repeat"),
        [...start, ...params.map(({ value }) => value)],
        { times: steps, carry: start.length },
        { body },
      ),
    ).results;
    results.forEach((result, i) => {
      outer.rename(result, totals[i]);
    });
    return {
      ...graph,
      params,
      nodes: outer.nodes,
      outputs: graph.outputs.map(({ name }, i) => ({ name, value: results[i] })),
    };
  },
});

/** The graph as a body that adds each output to what came before. */
function bodyOf(graph: Graph) {
  const inner = Builder.continuing(graph);
  const before = graph.outputs.map(
    ({ value }): Value => ({ name: inner.unique(`${value.name}.before`), type: value.type }),
  );
  const sums = building(inner, () =>
    graph.outputs.map(({ value }, i) => ops.add(before[i], value, {}, { name: `${value.name}.sum` })),
  );
  return inner.region([...before, ...graph.params.map(({ value }) => value)], sums);
}
