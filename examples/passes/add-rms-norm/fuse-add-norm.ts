/**
 * @file A pass that fuses: the residual add and the rms_norm that reads it become one op of our own.
 *
 *     %h = add %x, %o_proj                       : f32[1, 4096, 512]
 *     %n = rms_norm %h, %norm.weight             : f32[1, 4096, 512]
 *
 *   becomes
 *
 *     %h, %n = add_rms_norm %x, %o_proj, %norm.weight : f32[1, 4096, 512], f32[1, 4096, 512]
 *
 * The same sums in the same order, so the numbers are exact; both values keep their names, so who reads them need not be
 * touched. The sum is normalized while it is in the cache. An add that something reads in between stays.
 */
import { consumers, definePass, type Graph, type Node, producers, sizesOf } from "ithaca";
import "./add_rms_norm.ts";

export const fuseAddNorm = definePass({
  name: "fuse-add-norm",
  summary: "makes one op of the residual add and the norm behind it",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    const nodes = fused(graph.nodes);
    return nodes === graph.nodes ? graph : ({ ...graph, nodes } satisfies Graph);
  },
});

/** The nodes with pairs fused, in bodies too; the same array where there is none. */
function fused(nodes: readonly Node[]): readonly Node[] {
  const [madeBy, readBy] = [producers(nodes), consumers(nodes)];
  const addOf = new Map<Node, Node>();
  for (const node of nodes) {
    const add = node.op === "rms_norm" ? madeBy.get(node.operands[0]) : undefined;
    if (add?.op !== "add" || readBy.get(node.operands[0])?.[0] !== node) continue;
    const [a, b] = add.operands.map(({ type }) => sizesOf(type).join());
    if (a === b) addOf.set(node, add);
  }
  const gone = new Set(addOf.values());
  let isChanged = addOf.size > 0;
  const result = nodes.flatMap((node): Node[] => {
    if (gone.has(node)) return [];
    const add = addOf.get(node);
    if (add) {
      const operands = [...add.operands, node.operands[1]];
      return [{ ...node, op: "add_rms_norm", operands, results: [...add.results, ...node.results] }];
    }
    if (!node.body) return [node];
    const inner = fused(node.body.nodes);
    if (inner === node.body.nodes) return [node];
    isChanged = true;
    return [{ ...node, body: { ...node.body, nodes: inner } }];
  });
  return isChanged ? result : nodes;
}
