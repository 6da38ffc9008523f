/** @file Makes tiles of segments of a program: what `tile-mlp` and `tile` share. */
import type { Graph, Node, Region, Value } from "../ir/graph.ts";
import { type Cut, tileType } from "../ir/ops/region.ts";
import { retyped, tileAttrs } from "../ir/tiles.ts";
import { localBytes, localSizes, type Mesh } from "../ir/type.ts";
import { cutInto } from "./cut.ts";
import { type Followed, followInputs } from "./follow.ts";
import { type Segment, segmentsOf } from "./segments.ts";

export interface Tiling {
  /** 0: as many as make the largest value inside at most `tile_bytes`. 1: none. */
  readonly tiles: number;
  readonly tile_bytes: number;
  readonly takes: (segment: Segment) => boolean;
}

const [BATCH, SEQUENCE] = [0, 1];

/**
 * The graph with a tile in place of every segment that `takes` says, at the top and in the layers. Where a rank's share has
 * several samples, a tile over these holds one over the sequence: parts must lie together.
 */
export function tileSegments(graph: Graph, tiling: Tiling): Graph {
  if (tiling.tiles === 1) return graph;
  const batch = localBatch(graph);
  if (batch === 1) return tiled(graph, SEQUENCE, tiling);
  const { tiles } = tiling;
  const outer = tiled(graph, BATCH, { ...tiling, tiles: tiles === 0 ? 0 : Math.min(tiles, batch) });
  const inner = tiles === 0 ? 0 : Math.ceil(tiles / batch);
  return inner === 1 ? outer : tiled(outer, SEQUENCE, { ...tiling, tiles: inner });
}

function localBatch({ params, mesh }: Graph): number {
  const inputs = params.filter(({ role, value }) => role === "input" && value.type.dims.length >= 2);
  return Math.max(1, ...inputs.map(({ value }) => localSizes(value.type, mesh)[BATCH]));
}

function tiled(graph: Graph, dim: number, tiling: Tiling): Graph {
  const places = followInputs(graph, dim);
  const returns = [...graph.outputs, ...graph.updates].map(({ value }) => value);
  const nodes = tileNodes({ nodes: graph.nodes, returns }, places, dim, graph.mesh, tiling);
  return nodes === graph.nodes ? graph : { ...graph, nodes };
}

function tileNodes(
  region: Pick<Region, "nodes" | "returns">,
  places: Followed,
  dim: number,
  mesh: Mesh,
  tiling: Tiling,
): readonly Node[] {
  const tiles = new Map<Node, Node>();
  const gone = new Set<Node>();
  for (const segment of segmentsOf(region, places, mesh)) {
    if (!tiling.takes(segment)) continue;
    const tile = tileOf(segment.nodes, region, places, mesh, tiling);
    if (!tile) continue;
    // It stands where the last of its nodes stood: every operand is there by then, and nobody has read a result.
    for (const node of segment.nodes) gone.add(node);
    tiles.set(segment.nodes[segment.nodes.length - 1], tile);
  }
  let changed = tiles.size > 0;
  const nodes = region.nodes.flatMap((node): readonly Node[] => {
    const tile = tiles.get(node);
    if (tile) return [tile];
    if (gone.has(node)) return [];
    // A tile over samples holds one over the sequence; one over the sequence is done.
    const open =
      node.op === "repeat" || (node.op === "tile" && dim === SEQUENCE && isOverBatch(node, places));
    if (!node.body || !open) return [node];
    const inner = tileNodes(node.body, places, dim, mesh, tiling);
    if (inner === node.body.nodes) return [node];
    changed = true;
    return [{ ...node, body: { ...node.body, nodes: inner } }];
  });
  return changed ? nodes : region.nodes;
}

/** Whether the tile cuts what has a sequence along the dimension in front of it, and is not done inside. */
const isOverBatch = (node: Node, places: Followed): boolean =>
  node.operands.some((operand, i) => places.has(operand) && tileAttrs(node).split[i] === BATCH) &&
  node.body?.nodes.every(({ op }) => op !== "tile") === true;

/** The nodes as one tile, or null where there would be a single one, or nobody reads what they make. */
function tileOf(
  nodes: readonly Node[],
  { nodes: all, returns }: Pick<Region, "nodes" | "returns">,
  places: Followed,
  mesh: Mesh,
  { tiles, tile_bytes }: Tiling,
): Node | null {
  const inside = new Set(nodes);
  const made = new Set(nodes.flatMap((node) => node.results));
  const read = new Set([...returns, ...all.flatMap((node) => (inside.has(node) ? [] : node.operands))]);
  const operands = [...new Set(nodes.flatMap((node) => node.operands))].filter((value) => !made.has(value));
  const results = [...made].filter((value) => read.has(value));
  if (results.length === 0) return null;
  const largest = Math.max(...[...made].map(({ type }) => localBytes(type, mesh)));
  const place = (value: Value): number => places.get(value) ?? -1;
  const cut: Cut = cutInto(
    results[0].type.dims[place(results[0])],
    tiles === 0 ? Math.ceil(largest / tile_bytes) : tiles,
    mesh,
  );
  if (cut.tiles === 1) return null;
  const split = operands.map(place);
  const body = retyped(
    { params: operands, nodes, returns: results },
    operands.map(({ type }, i) => tileType(type, split[i], cut)),
    mesh,
  );
  const attrs = { ...cut, split, join: results.map(place) };
  return { op: "tile", operands, attrs, results, body, loc: nodes[0].loc };
}
