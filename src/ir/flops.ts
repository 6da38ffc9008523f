/** @file FLOPs of a model: what its forward multiplies and adds, and three times that for a training step. */
import type { Graph, Node } from "./graph.ts";
import type { Cost } from "./op.ts";
import { recordOf } from "./ops/index.ts";
import { sizesOf, type TensorType } from "./type.ts";

/** Ops that the count of model FLOPs includes: the products. Norms and activations are left out, as is customary. */
const PRODUCTS = new Set(["matmul", "attention"]);

/** How often the body of a node runs. */
export function timesOf({ op, attrs }: Node): number {
  if (op === "repeat") return attrs.times as number;
  return op === "tile" ? (attrs.tiles as number) : 1;
}

/** What the records say that `nodes` cost, all ranks together, with everything in bodies as often as it runs. */
export function costOf(nodes: readonly Node[]): Cost {
  let [flops, bytes] = [0, 0];
  for (const node of nodes) {
    const types = node.operands.map(({ type }) => type);
    const results = node.results.map(({ type }) => type);
    const own = node.body ? costOf(node.body.nodes) : recordOf(node.op).cost(types, node.attrs, results);
    const times = timesOf(node);
    flops += times * own.flops;
    bytes += times * own.bytes;
  }
  return { flops, bytes };
}

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
    return node.body ? total + timesOf(node) * flopsOf(node.body.nodes) : total;
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
