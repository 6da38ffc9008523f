/**
 * @file The stretches of a program that work token by token, cut where they hand on a single value.
 *
 * Between two things that need the sequence whole lies a *run* of nodes that don't. Inside a run there are places where all
 * that the rest needs is one value, no larger than at any other such place: the residual stream between two blocks. There
 * the run falls into segments, each of which can be computed for a few tokens at a time.
 */
import type { Node, Region, Value } from "../ir/graph.ts";
import { localBytes, localSizes, type Mesh } from "../ir/type.ts";
import { type Followed, isFree } from "./follow.ts";

export interface Segment {
  readonly nodes: readonly Node[];
  /** Whether a matrix product feeds another: an MLP. */
  readonly isMlp: boolean;
}

/** The segments with a matrix product, in order. Neighbours that are no MLP are one segment. */
export function segmentsOf(
  { nodes, returns }: Pick<Region, "nodes" | "returns">,
  places: Followed,
  mesh: Mesh,
): Segment[] {
  const touches = (node: Node) => [...node.operands, ...node.results].some((value) => places.has(value));
  // The logits belong to the loss, which has tiles of its own; a look-up's gradient is as large as its table.
  const heads = new Set(nodes.filter(({ op }) => op === "cross_entropy").map(({ operands }) => operands[0]));
  const takes = (node: Node) =>
    node.op !== "embedding" &&
    !node.results.some((result) => heads.has(result)) &&
    isFree(node, places) &&
    [...node.operands, ...node.results].every((value) => isCuttable(value, places, mesh));
  const runs: Node[][] = [[]];
  for (const node of nodes) {
    if (takes(node)) runs[runs.length - 1].push(node);
    // What has nothing to do with the dimension, as a weight's cast, is in nobody's way.
    else if (touches(node)) runs.push([]);
  }
  return runs.flatMap((run) => {
    const inside = new Set(run);
    const read = new Set([...returns, ...nodes.flatMap((node) => (inside.has(node) ? [] : node.operands))]);
    return join(cut(run, read, places, mesh)).filter((segment) => segment.nodes.some(isProduct));
  });
}

const isProduct = (node: Node): boolean => node.op === "matmul";

/** Parts of the dimension lie together in memory: every dimension in front of it has size 1 on a rank. */
function isCuttable(value: Value, places: Followed, mesh: Mesh): boolean {
  const place = places.get(value) ?? 0;
  return localSizes(value.type, mesh)
    .slice(0, place)
    .every((size) => size === 1);
}

/** A run as segments; `read` are values that somebody outside reads. */
function cut(run: readonly Node[], read: ReadonlySet<Value>, places: Followed, mesh: Mesh): Segment[] {
  const waists = run.map((_, at): { at: number; bytes: number } => {
    const rest = run.slice(at + 1);
    const later = new Set(rest.flatMap((node) => node.results));
    const needed = new Set(rest.flatMap((node) => node.operands));
    const live = [...needed].filter((value) => !later.has(value) && places.has(value));
    const made = live.length === 1 && run[at].results.includes(live[0]);
    return { at, bytes: made ? localBytes(live[0].type, mesh) : Number.POSITIVE_INFINITY };
  });
  // What ends a run is no larger than what a block hands on: a chain is not cut at its widest.
  const ends = run.flatMap((node) => node.results).filter((value) => read.has(value));
  const least = Math.min(
    ...waists.map(({ bytes }) => bytes),
    ...ends.map(({ type }) => localBytes(type, mesh)),
  );
  const segments: Node[][] = [[]];
  run.forEach((node, at) => {
    segments[segments.length - 1].push(node);
    if (waists[at].bytes === least) segments.push([]);
  });
  return segments.filter((nodes) => nodes.length > 0).map((nodes) => ({ nodes, isMlp: feedsProduct(nodes) }));
}

function feedsProduct(nodes: readonly Node[]): boolean {
  const fed = new Set<Value>();
  return nodes.some((node) => {
    const reads = node.operands.some((operand) => fed.has(operand));
    if (isProduct(node) || reads) for (const result of node.results) fed.add(result);
    return isProduct(node) && reads;
  });
}

/** Neighbours that are no MLP as one. */
function join(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    if (last && !last.isMlp && !segment.isMlp)
      joined[joined.length - 1] = { nodes: [...last.nodes, ...segment.nodes], isMlp: false };
    else joined.push(segment);
  }
  return joined;
}
