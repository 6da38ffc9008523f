/** @file Which products of a tile's body are added straight onto a total, and never lie in memory themselves. */
import type { Node, Region, Value } from "../ir/graph.ts";

/** The body of a tile without the weight gradients that it only returns to be summed, and those by their value. */
export function splitProducts(
  body: Region,
  join: readonly number[],
): { nodes: readonly Node[]; products: Map<Value, Node> } {
  const products = new Map<Value, Node>();
  for (const node of body.nodes) {
    const [result] = node.results;
    const at = body.returns.indexOf(result);
    const read = body.nodes.some((other) => other.operands.includes(result));
    const sums = at >= 0 && join[at] < 0 && body.returns.lastIndexOf(result) === at;
    if (
      node.op === "matmul" &&
      node.attrs.transpose_a === true &&
      result.type.dtype === "f32" &&
      sums &&
      !read
    )
      products.set(result, node);
  }
  return { nodes: body.nodes.filter((node) => !products.has(node.results[0])), products };
}
