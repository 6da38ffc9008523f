/** @file FLOPs of a model: what its forward multiplies and adds, and three times that for a training step. */
import type { Graph, Node } from "./graph.ts";
import { recordOf } from "./ops/index.ts";
import { sizesOf, type TensorType } from "./type.ts";

/** Ops that the count of model FLOPs includes: the products. Norms and activations are left out, as is customary. */
const PRODUCTS = new Set(["matmul", "attention"]);

function flopsOf(nodes: readonly Node[]): number {
  return nodes.reduce((total, node) => {
    const types = node.operands.map((operand): TensorType => operand.type);
    if (PRODUCTS.has(node.op))
      return (
        total +
        recordOf(node.op).cost(
          types,
          node.attrs,
          node.results.map(({ type }) => type),
        ).flops
      );
    const times =
      node.op === "repeat"
        ? (node.attrs.times as number)
        : node.op === "tile"
          ? (node.attrs.tiles as number)
          : 1;
    return node.body ? total + times * flopsOf(node.body.nodes) : total;
  }, 0);
}

/**
 * FLOPs of one forward and backward of `graph`, a forward graph: three times its products, attention counted by visible
 * pairs of an unsegmented sample (6 N per token and 6 L h S per token for a causal model), nothing for recomputation.
 */
export function modelFlops(graph: Graph): number {
  return 3 * flopsOf(graph.nodes);
}

/** Number of elements of all weights. */
export function parameterCount(graph: Graph): number {
  return graph.params
    .filter(({ role }) => role === "param")
    .reduce(
      (total, { value }) => total + sizesOf(value.type).reduce((a, b) => a * b, 1) * (value.type.times ?? 1),
      0,
    );
}
