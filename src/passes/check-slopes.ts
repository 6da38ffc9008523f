/** @file Gradients against the slopes of the loss: along random directions, for each parameter. */
import type { NDArray } from "../ir/array.ts";
import type { Graph } from "../ir/graph.ts";
import { type Arrays, interpret } from "../ir/interpret.ts";
import { random } from "../ir/sample.ts";

const STEP = 1e-5;
/** Of a slope by central differences in float64: h^2 times the third derivative, and rounding divided by h. */
const TOLERANCE = 1e-5;

/** The first parameter whose gradient `d.NAME` is not the slope of `loss_sum`; null if there is none. */
export function wrongSlope(graph: Graph, arrays: Arrays): string | null {
  const loss = graph.outputs.find(({ name }) => name === "loss_sum");
  if (!loss) return null;
  const { outputs } = interpret(graph, arrays);
  const weights = graph.params.filter(
    ({ role, value }) => role === "param" && outputs.has(`d.${value.name}`),
  );
  // What leads to the loss is enough for its slopes, and costs a third.
  const forward = upTo(graph, loss.value.name);
  const lossAt = (changed: ReadonlyMap<string, NDArray>): number =>
    (interpret(forward, new Map([...arrays, ...changed])).outputs.get("loss_sum") as NDArray).data[0];
  const next = random(weights.length + 1);
  const size = Math.abs(lossAt(new Map())) + 1;
  for (const { value } of weights) {
    const weight = arrays.get(value.name) as NDArray;
    const direction = weight.data.map(() => next() - 0.5);
    const at = (step: number) =>
      lossAt(
        new Map([[value.name, { ...weight, data: weight.data.map((x, i) => x + step * direction[i]) }]]),
      );
    const slope = (at(STEP) - at(-STEP)) / (2 * STEP);
    const gradient = (outputs.get(`d.${value.name}`) as NDArray).data.reduce(
      (sum, d, i) => sum + d * direction[i],
      0,
    );
    if (Math.abs(slope - gradient) <= TOLERANCE * Math.max(size, Math.abs(slope))) continue;
    return `the gradient of %${value.name} is wrong: along a direction it says ${gradient}, and the slope of loss_sum is ${slope}`;
  }
  return null;
}

/** The graph with the nodes up to the one that gives `name`, and the loss as its only output. */
function upTo(graph: Graph, name: string): Graph {
  const last = graph.nodes.findIndex(({ results }) => results.some((result) => result.name === name));
  return {
    ...graph,
    nodes: graph.nodes.slice(0, last + 1),
    outputs: graph.outputs.filter((output) => output.name === "loss_sum"),
    updates: [],
  };
}
