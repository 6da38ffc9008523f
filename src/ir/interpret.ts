/**
 * @file Runs a graph on plain float64 arrays, whole or rank by rank; slow and obviously right.
 *
 * Rank by rank, every op sees only a rank's share of its operands, exactly as a compiled program would. A collective,
 * the identity on the global value, puts the shares together and cuts them anew for its result's layout. What is
 * computed from the same arrays is computed once: by ranks that hold one weight, and where the caller keeps a memo by
 * graphs that have a part in common.
 */
import { addInto, type NDArray, product, slice, zeros } from "./array.ts";
import type { Graph, Node, Region, Value } from "./graph.ts";
import { Memo } from "./memo.ts";
import { recordOf } from "./ops/index.ts";
import { printAttrs } from "./print.ts";
import { lastPart, tileAttrs } from "./tiles.ts";
import { localSizes, type Mesh, printType, sizesOf, type TensorType } from "./type.ts";

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
  readonly memo: Memo;
  readonly watch: Watch | undefined;
  readonly path: string;
}

export interface InterpretOptions {
  /** Runs every rank on its share and puts the results together. */
  readonly byRank?: boolean;
  /** Of earlier runs, whose graphs may be others. */
  readonly memo?: Memo;
  readonly watch?: Watch;
}

/** Runs `graph` on global arrays by parameter name. */
export function interpret(
  graph: Graph,
  arrays: Arrays,
  { byRank = false, memo = new Memo(), watch }: InterpretOptions = {},
): InterpretResult {
  const ranks = byRank ? coordinatesOf(graph.mesh) : [null];
  const run: Run = { mesh: graph.mesh, ranks, memo, watch, path: "" };
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

/** Where a rank's share of each dimension, of `sizes`, begins. */
function startOf(
  type: TensorType,
  sizes: readonly number[],
  mesh: Mesh,
  rank: ReadonlyMap<string, number>,
): number[] {
  return type.dims.map((dim, d) => {
    const part = dim.axes.reduce((index, axis) => index * (mesh.get(axis) ?? 1) + (rank.get(axis) ?? 0), 0);
    return part * sizes[d];
  });
}

/** The share of every rank, in the order of their numbers. */
export function sharesOf(whole: NDArray, type: TensorType, mesh: Mesh): readonly NDArray[] {
  return split(whole, type, { mesh, ranks: coordinatesOf(mesh), memo: new Memo() });
}

/** The whole value of the shares of every rank; partial sums are added up. */
export function wholeOf(shares: readonly NDArray[], type: TensorType, mesh: Mesh): NDArray {
  return join(shares, type, { mesh, ranks: coordinatesOf(mesh) });
}

const withTimes = (type: TensorType, sizes: readonly number[]): number[] =>
  type.times === null ? [...sizes] : [type.times, ...sizes];

type Ranks = Pick<Run, "mesh" | "ranks">;

/** `slice`, once for each place. */
function part(x: NDArray, start: readonly number[], sizes: readonly number[], memo: Memo): NDArray {
  return memo.of(`slice [${start}] [${sizes}]`, [x], () => [slice(x, start, sizes)])[0];
}

function split(whole: NDArray, type: TensorType, { mesh, ranks, memo }: Ranks & Pick<Run, "memo">): Shares {
  const sizes = localSizes(type, mesh);
  const isWhole = type.partial.length === 0 && type.dims.every(({ axes }) => axes.length === 0);
  return ranks.map((rank) => {
    if (!rank || isWhole) return whole;
    // Of a partial sum the first rank along each axis holds everything, the others zeros.
    if (type.partial.some((axis) => rank.get(axis) !== 0))
      return memo.of(`zeros [${sizes}]`, [], () => [zeros(sizes)])[0];
    const start = startOf(type, sizes, mesh, rank);
    return part(whole, type.times === null ? start : [0, ...start], withTimes(type, sizes), memo);
  });
}

function join(shares: Shares, type: TensorType, { mesh, ranks }: Ranks): NDArray {
  if (!ranks[0]) return shares[0];
  const owned = new Set([...type.partial, ...type.dims.flatMap((dim) => dim.axes)]);
  if (owned.size === 0) return shares[0];
  const whole = zeros(withTimes(type, sizesOf(type)));
  const sizes = localSizes(type, mesh);
  ranks.forEach((rank, i) => {
    // Copies along axes that the type doesn't mention are the same: take the first.
    if (!rank || [...rank].some(([axis, at]) => at !== 0 && !owned.has(axis))) return;
    const start = startOf(type, sizes, mesh, rank);
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
    return node.results.map((result, i) => {
      const { type } = node.operands[i];
      return run.memo.of(`${printType(type)} as ${printType(result.type)}`, operands[i], () =>
        split(join(operands[i], type, run), result.type, run),
      );
    });
  }
  const evaluate = record.eval;
  if (!evaluate) throw new Error(`${node.op} can't be evaluated`);
  const isSplit = run.ranks[0] !== null;
  const sizes = node.results.map(({ type }) => (isSplit ? localSizes(type, run.mesh) : sizesOf(type)));
  const attrs = isSplit ? localAttrs(node, run.mesh) : node.attrs;
  const what = `${node.op}${printAttrs(node.op, attrs)} ${JSON.stringify(sizes)}`;
  const isCut = isSplit && node.results.some(({ type }) => type.dims.some(({ axes }) => axes.length > 0));
  const origin = sizes.map((own) => own.map(() => 0));
  const perRank = run.ranks.map((rank, r) => {
    const starts =
      rank && isCut ? node.results.map(({ type }, i) => startOf(type, sizes[i], run.mesh, rank)) : origin;
    const arrays = operands.map((shares) => shares[r]);
    return run.memo.of(`${what} ${starts}`, arrays, () =>
      evaluate(arrays, attrs, sizes, starts).map((result, i) => sized(result, sizes[i])),
    );
  });
  return node.results.map((_, i) => perRank.map((results) => results[i]));
}

/** The array with these sizes: itself where it has them, as an operand has that is only handed on. */
function sized(result: NDArray, sizes: readonly number[]): NDArray {
  return result.sizes.join() === sizes.join() ? result : { ...result, sizes };
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
function member(share: NDArray, index: number, memo: Memo): NDArray {
  const sizes = share.sizes.slice(1);
  const size = product(sizes);
  return memo.of(`member ${index}`, [share], () => [
    { sizes, data: share.data.subarray(index * size, (index + 1) * size) },
  ])[0];
}

function runRepeat(node: Node, body: Region, operands: readonly Shares[], run: Run): readonly Shares[] {
  const { times, carry } = node.attrs as { times: number; carry: number };
  let carried = operands.slice(0, carry);
  for (let i = 0; i < times; i++) {
    const others = operands
      .slice(carry)
      .map((shares, at) =>
        node.operands[at + carry].type.times === null
          ? shares
          : shares.map((share) => member(share, i, run.memo)),
      );
    carried = runRegion(body, [...carried, ...others], inside(node, i, run));
  }
  return carried;
}

function runTile(node: Node, body: Region, operands: readonly Shares[], run: Run): readonly Shares[] {
  const { tiles, rest, split: cut, join: glue } = tileAttrs(node);
  const last = rest === 0 ? body : lastPart(node, run.mesh);
  /** What every turn gives, by result and rank, and where it goes. */
  const pieces = node.results.map(() => run.ranks.map((): { piece: NDArray; start: number[] }[] => []));
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
        return part(all, startAt(sizes, dim, i * step), sizes, run.memo);
      });
    });
    runRegion(region, parts, inside(node, i, run)).forEach((shares, r) => {
      const dim = glue[r];
      const [whole, one] = [node.results[r].type, body.returns[r].type];
      const sizes = run.ranks[0] ? localSizes(whole, run.mesh) : sizesOf(whole);
      const step = dim < 0 ? 0 : share(sizes[dim], whole, dim, one.dims[dim].size);
      shares.forEach((piece, rank) => {
        pieces[r][rank].push({ piece, start: startAt(piece.sizes, dim, i * step) });
      });
    });
  }
  return node.results.map(({ type }, r) => {
    const sizes = run.ranks[0] ? localSizes(type, run.mesh) : sizesOf(type);
    return pieces[r].map((own) => {
      const starts = own.map(({ start }) => start);
      const what = `tile [${sizes}] ${JSON.stringify(starts)}`;
      return run.memo.of(
        what,
        own.map(({ piece }) => piece),
        () => {
          const total = zeros(sizes);
          for (const { piece, start } of own) addInto(total, piece, start);
          return [total];
        },
      )[0];
    });
  });
}
