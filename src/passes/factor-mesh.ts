/**
 * @file Parts the axis of the sequence in two where it has more ranks than attention has heads: `sp` heads' worth of
 * ranks inside, a `ring` of such groups outside (USP: Fang and Zhao 2024, arXiv:2405.07719).
 *
 *     graph llama mesh(dp=2, sp=8)                 with attention of 4 heads
 *
 *   becomes
 *
 *     graph llama mesh(dp=2, ring=2, sp=4)
 *
 * Values have no layout yet: `shard` then splits the sequence over both axes, `4096@ring@sp`, so that every rank holds the
 * same tokens as before; `ulysses` exchanges sequence for heads within `sp`, and within `ring` queries stay split.
 *
 * The degree of `sp` is the divisor that gives attention the least time, at most the number of heads: two things make a
 * rank wait. Heads of zeros that fill up where heads don't divide, and a causal mask, which gives the last part of a
 * ring more keys than the others: about 2 - 1/ring times the mean, nearly 1 with a short window. Up to as many ranks
 * as there are heads this leaves all of them to `sp`, but for the odd number of heads with a window.
 */
import { allNodes, type Node } from "../ir/graph.ts";
import { type AttentionAttrs, visiblePairs } from "../ir/ops/attention.ts";
import { recordOf } from "../ir/ops/index.ts";
import { sizesOf } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const factorMesh = definePass({
  name: "factor-mesh",
  summary: "parts the axis of the sequence in two where it has more ranks than attention has heads",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: { axis: "sp", ring: "ring" },

  run(graph, { axis, ring }) {
    const ranks = graph.mesh.get(axis) ?? 1;
    const users = allNodes(graph.nodes).filter(({ op }) => op === "attention");
    const isLaidOut = graph.params.some(({ value }) =>
      value.type.dims.some(({ axes }) => axes.includes(axis)),
    );
    if (ranks === 1 || users.length === 0 || isLaidOut || graph.mesh.has(ring)) return graph;
    const inner = innerDegree(users, ranks);
    if (inner === ranks) return graph;
    const parts: [string, number][] = [[ring, ranks / inner]];
    if (inner > 1) parts.push([axis, inner]);
    return {
      ...graph,
      mesh: new Map([...graph.mesh].flatMap(([name, degree]) => (name === axis ? parts : [[name, degree]]))),
    };
  },
});

/** The degree of the inner axis that gives attention the least time; of equal ones the largest, which sends least. */
function innerDegree(users: readonly Node[], ranks: number): number {
  const heads = Math.min(...users.map(({ operands: [q] }) => sizesOf(q.type)[2]));
  const degrees = Array.from({ length: Math.min(ranks, heads) }, (_, i) => i + 1).filter(
    (degree) => ranks % degree === 0,
  );
  const time = (degree: number) =>
    users.reduce((total, node) => total + timeOf(node, degree, ranks / degree), 0);
  return degrees.reduce((best, degree) => (time(degree) <= time(best) ? degree : best));
}

/** FLOPs of the rank that has most to do, times the number of ranks. */
function timeOf(node: Node, inner: number, ring: number): number {
  const types = node.operands.map(({ type }) => type);
  const [, length, heads] = sizesOf(types[0]);
  const { flops } = recordOf(node.op).cost(types, node.attrs, []);
  const filled = (Math.ceil(heads / inner) * inner) / heads;
  const options = node.attrs as unknown as AttentionAttrs;
  const all = visiblePairs(length, options);
  // Of causal queries the last ones see the most keys.
  const most = options.causal ? all - visiblePairs(length - length / ring, options) : all / ring;
  return flops * filled * ((most * ring) / all);
}
