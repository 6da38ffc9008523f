/**
 * @file Runs a graph on plain float64 arrays, whole or rank by rank; slow and obviously right.
 *
 * Rank by rank, every op sees only a rank's share of its operands, exactly as a compiled program would. A collective,
 * the identity on the global value, puts the shares together and cuts them anew for its result's layout.
 */
import { addInto, type NDArray, product, slice, zeros } from "./array.ts";
import type { Graph, Node, Region, Value } from "./graph.ts";
import { recordOf } from "./ops/index.ts";
import { lastPart, tileAttrs } from "./tiles.ts";
import { localSizes, type Mesh, sizesOf, type TensorType } from "./type.ts";

/** A family's arrays have a first dimension of `times`. */
export type Arrays = ReadonlyMap<string, NDArray>;

export interface InterpretResult {
  readonly outputs: Map<string, NDArray>;
  /** New values of parameters and states, by the parameter's name. */
  readonly updates: Map<string, NDArray>;
}

/** One array per rank; a single one when the graph is run whole. */
type Shares = readonly NDArray[];

/**
 * Called for every value of a node as it is made, with every rank's share (one array where the graph is run whole). `path`
 * leads through the bodies it is in: `h.1[0]/q` is %q of the first run of the loop that gives %h.1.
 */
export type Watch = (path: string, value: Value, shares: readonly NDArray[], node: Node) => void;

interface Run {
  readonly mesh: Mesh;
  readonly ranks: readonly (ReadonlyMap<string, number> | null)[];
  readonly watch: Watch | undefined;
  readonly path: string;
}

interface InterpretOptions {
  /** Runs every rank on its share and puts the results together. */
  readonly byRank?: boolean;
  readonly watch?: Watch;
}

/** Runs `graph` on global arrays by parameter name. */
export function interpret(
  graph: Graph,
  arrays: Arrays,
  { byRank = false, watch }: InterpretOptions = {},
): InterpretResult {
  const run: Run = { mesh: graph.mesh, ranks: byRank ? coordinatesOf(graph.mesh) : [null], watch, path: "" };
  const env = new Map<Value, Shares>();
  for (const { value } of graph.params) {
    const whole = arrays.get(value.name);
    if (!whole) throw new Error(`no array was given for %${value.name}`);
    env.set(value, split(whole, value.type, run));
  }
  runNodes(graph.nodes, env, run);
  const global = (value: Value): NDArray => join(env.get(value) as Shares, value.type, run);
  return {
    outputs: new Map(graph.outputs.map(({ name, value }) => [name, global(value)])),
    updates: new Map(graph.updates.map(({ param, value }) => [param.name, global(value)])),
  };
}

/** The coordinates of every rank, by axis; the last axis varies fastest. */
export function coordinatesOf(mesh: Mesh): ReadonlyMap<string, number>[] {
  let ranks: Map<string, number>[] = [new Map()];
  for (const [axis, degree] of mesh) {
    ranks = ranks.flatMap((rank) => Array.from({ length: degree }, (_, i) => new Map([...rank, [axis, i]])));
  }
  return ranks;
}

/** Where a rank's share of each dimension begins. */
function startOf(type: TensorType, mesh: Mesh, rank: ReadonlyMap<string, number>): number[] {
  const sizes = localSizes(type, mesh);
  return type.dims.map((dim, d) => {
    const part = dim.axes.reduce((index, axis) => index * (mesh.get(axis) ?? 1) + (rank.get(axis) ?? 0), 0);
    return part * sizes[d];
  });
}

/** The share of every rank, in the order of their numbers. */
export function sharesOf(whole: NDArray, type: TensorType, mesh: Mesh): readonly NDArray[] {
  return split(whole, type, { mesh, ranks: coordinatesOf(mesh) });
}

/** The whole value of the shares of every rank; partial sums are added up. */
export function wholeOf(shares: readonly NDArray[], type: TensorType, mesh: Mesh): NDArray {
  return join(shares, type, { mesh, ranks: coordinatesOf(mesh) });
}

const withTimes = (type: TensorType, sizes: readonly number[]): number[] =>
  type.times === null ? [...sizes] : [type.times, ...sizes];

type Ranks = Pick<Run, "mesh" | "ranks">;

function split(whole: NDArray, type: TensorType, { mesh, ranks }: Ranks): Shares {
  return ranks.map((rank) => {
    if (!rank) return whole;
    const start = startOf(type, mesh, rank);
    // Of a partial sum the first rank along each axis holds everything, the others zeros.
    if (type.partial.some((axis) => rank.get(axis) !== 0)) return zeros(localSizes(type, mesh));
    return slice(whole, type.times === null ? start : [0, ...start], withTimes(type, localSizes(type, mesh)));
  });
}

function join(shares: Shares, type: TensorType, { mesh, ranks }: Ranks): NDArray {
  if (!ranks[0]) return shares[0];
  const whole = zeros(withTimes(type, sizesOf(type)));
  const owned = new Set([...type.partial, ...type.dims.flatMap((dim) => dim.axes)]);
  ranks.forEach((rank, i) => {
    // Copies along axes that the type doesn't mention are the same: take the first.
    if (!rank || [...rank].some(([axis, at]) => at !== 0 && !owned.has(axis))) return;
    const start = startOf(type, mesh, rank);
    addInto(whole, shares[i], type.times === null ? start : [0, ...start]);
  });
  return whole;
}

function runNodes(nodes: readonly Node[], env: Map<Value, Shares>, run: Run): void {
  for (const node of nodes) {
    const operands = node.operands.map((operand) => env.get(operand) as Shares);
    const results = runNode(node, operands, run);
    node.results.forEach((result, i) => {
      env.set(result, results[i]);
      run.watch?.(`${run.path}${result.name}`, result, results[i], node);
    });
  }
}

/** The run of a node's body for the `i`th time. */
function inside(node: Node, i: number, run: Run): Run {
  return run.watch ? { ...run, path: `${run.path}${node.results[0]?.name ?? node.op}[${i}]/` } : run;
}

function runRegion(region: Region, operands: readonly Shares[], run: Run): Shares[] {
  const env = new Map<Value, Shares>(region.params.map((param, i) => [param, operands[i]]));
  runNodes(region.nodes, env, run);
  return region.returns.map((value) => env.get(value) as Shares);
}

function runNode(node: Node, operands: readonly Shares[], run: Run): readonly Shares[] {
  const record = recordOf(node.op);
  if (node.body) return runBody(node, node.body, operands, run);
  if (record.sharding === "moves" && node.operands.length > 0) {
    return node.results.map((result, i) =>
      split(join(operands[i], node.operands[i].type, run), result.type, run),
    );
  }
  const evaluate = record.eval;
  if (!evaluate) throw new Error(`${node.op} can't be evaluated`);
  const perRank = run.ranks.map((rank, r) => {
    const sizes = node.results.map((result) =>
      rank ? localSizes(result.type, run.mesh) : sizesOf(result.type),
    );
    const starts = node.results.map(({ type }) => startOf(type, run.mesh, rank ?? new Map()));
    const arrays = operands.map((shares) => shares[r]);
    const attrs = rank ? localAttrs(node, run.mesh) : node.attrs;
    return evaluate(arrays, attrs, sizes, starts).map((result, i) => ({ ...result, sizes: sizes[i] }));
  });
  return node.results.map((_, i) => perRank.map((results) => results[i]));
}

/** Attributes that are sizes are global; evaluation on a rank needs its own. */
function localAttrs(node: Node, mesh: Mesh): Node["attrs"] {
  if (!("sizes" in node.attrs)) return node.attrs;
  return { ...node.attrs, sizes: localSizes(node.results[0].type, mesh) };
}

function runBody(node: Node, body: Region, operands: readonly Shares[], run: Run): readonly Shares[] {
  if (node.op === "fused" || node.op === "checkpoint") return runRegion(body, operands, inside(node, 0, run));
  if (node.op === "repeat") return runRepeat(node, body, operands, run);
  return runTile(node, body, operands, run);
}

/** Member `index` of a family's share. */
function member(share: NDArray, index: number): NDArray {
  const sizes = share.sizes.slice(1);
  const size = product(sizes);
  return { sizes, data: share.data.subarray(index * size, (index + 1) * size) };
}

function runRepeat(node: Node, body: Region, operands: readonly Shares[], run: Run): readonly Shares[] {
  const { times, carry } = node.attrs as { times: number; carry: number };
  let carried = operands.slice(0, carry);
  for (let i = 0; i < times; i++) {
    const others = operands
      .slice(carry)
      .map((shares, at) =>
        node.operands[at + carry].type.times === null ? shares : shares.map((share) => member(share, i)),
      );
    carried = runRegion(body, [...carried, ...others], inside(node, i, run));
  }
  return carried;
}

function runTile(node: Node, body: Region, operands: readonly Shares[], run: Run): readonly Shares[] {
  const { tiles, rest, split: cut, join: glue } = tileAttrs(node);
  const last = rest === 0 ? body : lastPart(node, run.mesh);
  const results = node.results.map((result) =>
    run.ranks.map((rank) => zeros(rank ? localSizes(result.type, run.mesh) : sizesOf(result.type))),
  );
  /** How much of a share belongs to a part of which `size` elements are said to be cut from `whole`. */
  const share = (local: number, whole: TensorType, dim: number, size: number): number =>
    (local * size) / whole.dims[dim].size;
  const startAt = (sizes: readonly number[], dim: number, at: number) =>
    sizes.map((_, d) => (d === dim ? at : 0));
  for (let i = 0; i < tiles; i++) {
    const region = i === tiles - 1 ? last : body;
    const parts = operands.map((shares, at) => {
      const dim = cut[at];
      if (dim < 0) return shares;
      const whole = node.operands[at].type;
      const [full, own] = [body, region].map(({ params }) => params[at].type.dims[dim].size);
      return shares.map((all) => {
        const step = share(all.sizes[dim], whole, dim, full);
        const length = share(all.sizes[dim], whole, dim, own);
        const sizes = all.sizes.map((size, d) => (d === dim ? length : size));
        return slice(all, startAt(sizes, dim, i * step), sizes);
      });
    });
    runRegion(region, parts, inside(node, i, run)).forEach((shares, r) => {
      const dim = glue[r];
      const [whole, part] = [node.results[r].type, body.returns[r].type];
      shares.forEach((own, rank) => {
        const total = results[r][rank];
        const step = dim < 0 ? 0 : share(total.sizes[dim], whole, dim, part.dims[dim].size);
        addInto(total, own, startAt(own.sizes, dim, i * step));
      });
    });
  }
  return results;
}
