/**
 * @file Gradients against the slopes of the loss along random directions: all parameters at once, which takes two runs of
 * the forward pass, and where the two disagree each by itself, to name the one that is wrong.
 */
import type { NDArray } from "../ir/array.ts";
import type { Graph } from "../ir/graph.ts";
import { type Arrays, type InterpretResult, interpret } from "../ir/interpret.ts";
import { random } from "../ir/sample.ts";

/** Of all parameters together the third derivative is large: 1e-5 would be 3e-6 off for 32 layers. */
const STEP = 1e-6;
/** Of a slope by central differences in float64: STEP^2 times the third derivative, and rounding divided by STEP. */
const TOLERANCE = 1e-6;

/** The first parameter whose gradient `d.NAME` is not the slope of `loss_sum`; null if there is none. */
export function wrongSlope(
  graph: Graph,
  arrays: Arrays,
  { outputs }: InterpretResult = interpret(graph, arrays),
): string | null {
  const loss = graph.outputs.find(({ name }) => name === "loss_sum");
  if (!loss) return null;
  const weights = graph.params.filter(
    ({ role, value }) => role === "param" && outputs.has(`d.${value.name}`),
  );
  // What leads to the loss is enough for its slopes, and costs a third.
  const forward = upTo(graph, loss.value.name);
  const lossAt = (changed: ReadonlyMap<string, NDArray>): number =>
    (interpret(forward, new Map([...arrays, ...changed])).outputs.get("loss_sum") as NDArray).data[0];
  const next = random(weights.length + 1);
  const directions = weights.map(({ value }): [string, Float64Array] => [
    value.name,
    (arrays.get(value.name) as NDArray).data.map(() => next() - 0.5),
  ]);
  const moved = (name: string, direction: Float64Array, by: number): NDArray => {
    const weight = arrays.get(name) as NDArray;
    return { ...weight, data: weight.data.map((x, i) => x + by * direction[i]) };
  };
  const size = Math.abs((outputs.get("loss_sum") as NDArray).data[0]) + 1;
  const compare = (own: typeof directions) => {
    const at = (by: number) =>
      lossAt(new Map(own.map(([name, direction]) => [name, moved(name, direction, by)])));
    const slope = (at(STEP) - at(-STEP)) / (2 * STEP);
    const gradient = own.reduce(
      (total, [name, direction]) =>
        (outputs.get(`d.${name}`) as NDArray).data.reduce((sum, d, i) => sum + d * direction[i], total),
      0,
    );
    const error = Math.abs(slope - gradient) / Math.max(size, Math.abs(slope));
    return { slope, gradient, error };
  };
  if (compare(directions).error <= TOLERANCE) return null;
  for (const own of directions) {
    const { slope, gradient, error } = compare([own]);
    if (error <= TOLERANCE) continue;
    return `the gradient of %${own[0]} is wrong: along a direction it says ${gradient}, and the slope of loss_sum is ${slope}`;
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
