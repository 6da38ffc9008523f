/**
 * @file Attention in groups of heads: project, exchange, attend and project back a few heads at a time, so that queries, keys
 * and values never exist for all heads at once (UPipe, "Untied Ulysses", arXiv:2602.21196).
 *
 *     %q_proj = matmul %x, %wq transpose_b=true              : f32[1, 4096, 512]
 *     %q = split_heads %q_proj heads=8                       : f32[1, 4096, 8, 64]
 *     ... %k and %v likewise ...
 *     %out, %lse = attention %q, %k, %v, %segments
 *     %merged = merge_heads %out                             : f32[1, 4096, 512]
 *     %y = matmul %merged, %wo transpose_b=true              : f32[1, 4096, 512]
 *
 *   becomes
 *
 *     %wo.1 = transpose %wo order=[1, 0]                     : f32[512, 512]
 *     %y = tile %x, %wq, %wk, %wv, %segments, %wo.1 tiles=4 split=[-1, 0, 0, 0, -1, 0] join=[-1] : f32[1, 4096, 512] {
 *       ... the same, with two heads: a quarter of the rows of every weight
 *     }
 *
 * Heads are one more dimension that sharding rules leave free, from the rows of the projections' weights to the columns of
 * the output projection's, where they are summed over: so the groups' outputs are added up, in f32. Key heads are cut with
 * the query heads that read them. It stands before ulysses, which then exchanges inside the loop, one group's heads at a
 * time. The gradient is a tile too: backward projects, exchanges and attends each group again. That is the price: one more
 * forward of attention, which layers that are computed again would run anyway; what is kept of attention (the policy
 * `attention`) is kept for all heads, so the two exclude each other.
 */
import { UserError } from "../ir/error.ts";
import { consumers, type Graph, type Node, producers, type Region, type Value } from "../ir/graph.ts";
import { completeAttrs } from "../ir/op.ts";
import { recordOf } from "../ir/ops/index.ts";
import { tileType } from "../ir/ops/region.ts";
import { retyped } from "../ir/tiles.ts";
import { localSizes, type Mesh } from "../ir/type.ts";
import { isFree, termsOf } from "./follow.ts";
import { definePass } from "./pass.ts";

export const headGroups = definePass({
  name: "head-groups",
  summary: "projects, exchanges and attends a few heads at a time",
  numerics: "reordered",
  requires: [],
  establishes: [],
  options: { groups: 1 },

  run(graph, { groups }) {
    if (groups === 1) return graph;
    const nodes = groupNodes(graph.nodes, graph.mesh, groups, namesIn(graph));
    return nodes === graph.nodes ? graph : { ...graph, nodes };
  },
});

/** Numbers of groups that the attention of `graph` can be done in, each rank with whole heads; [1] where there is none. */
export function possibleGroups(graph: Graph, axis = "sp"): number[] {
  const degree = graph.mesh.get(axis) ?? 1;
  const chains = bodies(graph.nodes).flatMap((nodes) =>
    nodes
      .filter(({ op }) => op === "attention")
      .map((node) => ({ node, chain: chainOf(node, nodes, graph.mesh) })),
  );
  if (chains.length === 0 || chains.some(({ chain }) => typeof chain === "string")) return [1];
  const least = Math.min(...chains.map(({ node }) => keyHeads(node)));
  return Array.from({ length: least }, (_, i) => i + 1).filter((groups) =>
    chains.every(({ node }) => {
      const heads = node.operands[0].type.dims[HEADS].size / groups;
      return keyHeads(node) % groups === 0 && (groups === 1 || heads % degree === 0);
    }),
  );
}

const HEADS = 2;

const keyHeads = (attention: Node): number => attention.operands[1].type.dims[HEADS].size;

function bodies(nodes: readonly Node[]): (readonly Node[])[] {
  return [nodes, ...nodes.flatMap(({ op, body }) => (op === "repeat" && body ? bodies(body.nodes) : []))];
}

const namesIn = (graph: Graph): Set<string> =>
  new Set([
    ...graph.params.map(({ value }) => value.name),
    ...graph.nodes.flatMap((node) => node.results.map(({ name }) => name)),
  ]);

function groupNodes(nodes: readonly Node[], mesh: Mesh, groups: number, names: Set<string>): readonly Node[] {
  let changed = false;
  const inside = nodes.map((node) => {
    if (node.op !== "repeat" || !node.body) return node;
    const { body } = node;
    const own = new Set(
      [...body.params, ...body.nodes.flatMap(({ results }) => results)].map(({ name }) => name),
    );
    const inner = groupNodes(body.nodes, mesh, groups, own);
    if (inner === body.nodes) return node;
    changed = true;
    return { ...node, body: { ...body, nodes: inner } };
  });
  const tiles = new Map<Node, readonly Node[]>();
  const gone = new Set<Node>();
  for (const node of inside.filter(({ op }) => op === "attention")) {
    const chain = chainOf(node, inside, mesh);
    if (typeof chain === "string")
      throw new UserError(`attention can't be done in groups of heads: ${chain}`, {
        location: node.loc,
        remedy: "Set memory.head_groups: off.",
      });
    if (keyHeads(node) % groups !== 0)
      throw new UserError(`${keyHeads(node)} key heads can't be taken in ${groups} groups`, {
        location: node.loc,
        remedy: `Set memory.head_groups to a divisor of ${keyHeads(node)}.`,
      });
    for (const own of chain.nodes) gone.add(own);
    gone.add(chain.last);
    tiles.set(chain.last, tileOf(chain, groups, mesh, names));
  }
  if (tiles.size === 0 && !changed) return nodes;
  return inside.flatMap((node) => tiles.get(node) ?? (gone.has(node) ? [] : [node]));
}

/** What has the heads apart: from the weights of the projections to the product that sums over them. */
interface Chain {
  readonly nodes: readonly Node[];
  /** Where the heads are in each value that has them. */
  readonly places: ReadonlyMap<Value, number>;
  /** The product that sums over the heads, and its operands. */
  readonly last: Node;
  readonly merged: Value;
  readonly weight: Value;
  /** What gives the weight its element type, if anything: done to each part, so that its gradient leaves the tile in f32. */
  readonly cast: Node | null;
}

/** The chain around `attention`, or what is in its way. */
function chainOf(attention: Node, all: readonly Node[], mesh: Mesh): Chain | string {
  const made = producers(all);
  const users = consumers(all);
  const places = new Map<Value, number>();
  const inside = new Set<Node>([attention]);
  const open = attention.operands.slice(0, 3).map((value) => ({ value, place: HEADS }));
  const follow = () => {
    for (let at = open.pop(); at; at = open.pop()) {
      const { value, place } = at;
      if (places.has(value)) continue;
      places.set(value, place);
      const node = made.get(value);
      const terms = node && termsOf(node);
      if (!node || !terms) continue;
      const { letter, whole } = terms.results[node.results.indexOf(value)][place];
      if (whole || terms.operands.some((dims) => dims.some((dim) => dim.letter === letter && dim.whole)))
        continue;
      inside.add(node);
      terms.operands.forEach((dims, i) => {
        const own = dims.findIndex((dim) => dim.letter === letter);
        if (own >= 0) open.push({ value: node.operands[i], place: own });
      });
    }
  };
  follow();
  const [out, lse] = attention.results;
  if ((users.get(lse) ?? []).length > 0) return `%${lse.name} is read`;
  places.set(out, HEADS);
  places.set(lse, HEADS);
  for (let value = out; ; ) {
    const [node, ...others] = users.get(value) ?? [];
    if (!node || others.length > 0)
      return `%${value.name} has ${others.length === 0 ? "no" : "several"} readers`;
    const terms = termsOf(node);
    const at = node.operands.indexOf(value);
    const letter = terms?.operands[at][places.get(value) as number]?.letter;
    if (!terms || letter === undefined) return `${node.op} does not leave its heads apart`;
    const place = terms.results[0].findIndex((dim) => dim.letter === letter);
    if (place < 0) {
      const [merged, weight] = node.operands;
      if (node.op !== "matmul" || merged !== value || node.attrs.transpose_b !== true)
        return `${node.op} sums over its heads`;
      const maker = made.get(weight);
      const cast = maker?.op === "cast" ? maker : null;
      return closed(
        { nodes: all.filter((own) => inside.has(own)), places, last: node, merged, weight, cast },
        all,
        mesh,
      );
    }
    inside.add(node);
    terms.operands.forEach((dims, i) => {
      const own = dims.findIndex((dim) => dim.letter === letter);
      if (own >= 0 && i !== at) open.push({ value: node.operands[i], place: own });
    });
    follow();
    value = node.results[0];
    places.set(value, place);
    if (!isFree(node, places)) return `${node.op} does not leave its heads apart`;
  }
}

/** The chain, if nobody outside reads what is in it and its weights can be cut; else what is in the way. */
function closed(chain: Chain, all: readonly Node[], mesh: Mesh): Chain | string {
  const inside = new Set([...chain.nodes, chain.last]);
  const made = new Set(chain.nodes.flatMap((node) => node.results));
  for (const node of all) {
    const read = inside.has(node) ? undefined : node.operands.find((operand) => made.has(operand));
    if (read) return `%${read.name} is read by ${node.op} too`;
  }
  for (const [value, place] of chain.places) {
    const rows = localSizes(value.type, mesh).slice(0, place);
    if (!made.has(value) && rows.some((size) => size !== 1))
      return `the heads of %${value.name} do not lie together`;
  }
  return chain;
}

/** The transposed output projection, the tile, and a cast back where the sum is not what is wanted. */
function tileOf(chain: Chain, groups: number, mesh: Mesh, names: Set<string>): Node[] {
  const { nodes, places, last, merged, weight, cast } = chain;
  const { loc } = last;
  const unique = (wish: string): string => {
    let name = `${wish}.1`;
    for (let suffix = 2; names.has(name); suffix++) name = `${wish}.${suffix}`;
    names.add(name);
    return name;
  };
  const [result] = last.results;
  const turn = ({ name, type }: Value): Value => ({
    name: unique(name),
    type: { ...type, dims: [...type.dims].reverse() },
  });
  const source = cast?.operands[0] ?? weight;
  const turned = turn(source);
  const lowered = cast ? turn(weight) : turned;
  const casts = cast ? [{ ...cast, operands: [turned], results: [lowered] }] : [];
  const isSum = result.type.dtype === "f32";
  const part: Value = { name: result.name, type: { ...result.type, dtype: "f32" } };
  const product: Node = {
    ...last,
    operands: [merged, lowered],
    attrs: completeAttrs(recordOf("matmul"), isSum ? {} : { dtype: "f32" }),
    results: [part],
  };
  const made = new Set(nodes.flatMap((node) => node.results));
  const given = [...new Set([...nodes.flatMap((node) => node.operands), turned])].filter(
    (value) => !made.has(value),
  );
  const split = given.map((value) => (value === turned ? 0 : (places.get(value) ?? -1)));
  const cut = { tiles: groups, rest: 0 };
  const region: Region = { params: given, nodes: [...nodes, ...casts, product], returns: [part] };
  const body = retyped(
    region,
    given.map(({ type }, i) => tileType(type, split[i], cut)),
    mesh,
  );
  const sum: Value = isSum ? result : { name: unique(result.name), type: part.type };
  const attrs = { ...cut, split, join: [-1] };
  return [
    {
      op: "transpose",
      operands: [source],
      attrs: completeAttrs(recordOf("transpose"), { order: [1, 0] }),
      results: [turned],
      body: null,
      loc,
    },
    { op: "tile", operands: given, attrs, results: [sum], body, loc: nodes[0].loc },
    ...(isSum
      ? []
      : [
          {
            op: "cast",
            operands: [sum],
            attrs: { dtype: result.type.dtype },
            results: [result],
            body: null,
            loc,
          },
        ]),
  ];
}
