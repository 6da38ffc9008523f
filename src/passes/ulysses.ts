/**
 * @file Ulysses sequence parallelism (Jacobs et al. 2023, arXiv:2309.14509): around an op that needs its sequence whole,
 * another dimension is split instead.
 *
 *     %out, %lse = attention %q, %k, %v, %segments           : f32[1, 4096@sp, 32, 128], f32[1, 4096@sp, 32]
 *
 *   becomes
 *
 *     %q.1, %k.1, %v.1 = all_to_all %q, %k, %v axis=sp from=1 to=2
 *                                                            : f32[1, 4096, 32@sp, 128], ...
 *     %segments.1 = all_gather %segments axis=sp dim=1       : i32[1, 4096]
 *     %out.1, %lse.1 = attention %q.1, %k.1, %v.1, %segments.1
 *     %out = all_to_all %out.1 axis=sp from=2 to=1           : f32[1, 4096@sp, 32, 128]
 *
 * Everything else in a transformer block works token by token and stays split. No op is known by name here: the sharding
 * rule says which dimension must be whole (`s!`) and which others are free to be split. For attention that is the
 * heads; key heads are groups (`g` of `(gr)`), and where their number does not divide, each is repeated for as many
 * groups of query heads as need it, so that a rank gets just the key heads that its query heads read, and gradients are
 * summed back. Where not even the query heads divide, heads of zeros fill up and are cut off behind the op.
 *
 * Each rank sends (sp-1)/sp of its own operands and results, which stays the same when the sequence and `sp` grow
 * together. The gradient of an all_to_all is one too, so backward is split in the same way.
 */
import { append } from "../ir/build.ts";
import { allNodes, escaping, type Node, type Value } from "../ir/graph.ts";
import { type LetterDim, letters } from "../ir/layout.ts";
import { ruleOf } from "../ir/op.ts";
import { ops, recordOf } from "../ir/ops/index.ts";
import { keep, type Replacement, rewrite } from "../ir/rewrite.ts";
import { definePass } from "./pass.ts";

export const ulysses = definePass({
  name: "ulysses",
  summary: "splits heads instead of the sequence around what needs its sequence whole",
  numerics: "exact",
  requires: [],
  establishes: ["laid-out"],
  /** The mesh axes of exchanges and of gathers. */
  options: { axis: "sp", ring: "ring" },

  run(graph, { axis, ring }) {
    const axes = [axis, ring].filter((own) => (graph.mesh.get(own) ?? 1) > 1);
    if (axes.length === 0) return graph;
    const all = allNodes(graph.nodes);
    const read = new Set([
      ...escaping(graph),
      ...all.flatMap((node) => [...node.operands, ...(node.body?.returns ?? [])]),
    ]);
    const degree = graph.mesh.get(axis) ?? 1;
    return rewrite(graph, { any: (node, operands) => around(node, operands, { axis, ring, degree, read }) });
  },
});

interface Context {
  readonly axis: string;
  readonly ring: string;
  /** Of `axis`. */
  readonly degree: number;
  /** Values that somebody reads. */
  readonly read: ReadonlySet<Value>;
}

/** The node between exchanges and behind gathers, or `keep` where nothing that must be whole is split. */
function around(node: Node, operands: readonly Value[], context: Context): Replacement {
  const record = recordOf(node.op);
  const types = operands.map(({ type }) => type);
  const rule = ruleOf(record, node.attrs, types);
  if (rule === "moves" || rule === "body") return keep;
  const terms = letters(
    rule,
    types,
    node.results.map(({ type }) => type),
  );
  const isBlocked = (over: string) =>
    operands.some((_, i) => wholeDim(operands[i], terms.operands[i], over) >= 0);
  const { axis, ring, degree, read } = context;
  if (!isBlocked(axis) && !isBlocked(ring)) return keep;

  const other = isBlocked(axis) ? freeLetter(terms.operands, operands, degree) : null;
  const groups = other === null ? null : plan(terms.operands, operands, other, degree);
  const filled = operands.map((operand, i): Move => {
    const from = splitDim(operand, axis);
    const to = terms.operands[i].findIndex((own) => own.letter === other);
    const isMoved = from >= 0 && to >= 0 && groups !== null;
    return { value: isMoved ? fill(operand, to, groups[i]) : operand, from, to };
  });
  const moved = exchangeAll(filled, axis).map((value, i) =>
    [axis, ring].reduce((whole, over) => {
      const dim = wholeDim(whole, terms.operands[i], over);
      return dim < 0 ? whole : ops.all_gather(whole, { axis: over, dim });
    }, value),
  );
  const results = append(record, moved, node.attrs).map((value, i): Move => {
    const to = read.has(node.results[i]) ? splitDim(node.results[i], axis) : -1;
    return { value, from: terms.results[i].findIndex((own) => own.letter === other), to };
  });
  return exchangeAll(results, axis).map((back, i) => {
    const { from, to } = results[i];
    if (from < 0 || to < 0) return back;
    const size = node.results[i].type.dims[from].size;
    return back.type.dims[from].size === size ? back : ops.slice(back, { dim: from, start: 0, length: size });
  });
}

/** The dimension that is split over `axis`, or -1. */
function splitDim({ type }: Value, axis: string): number {
  return type.dims.findIndex(({ axes }) => axes.includes(axis));
}

/** The dimension that must be whole and is split over `axis`, or -1. */
function wholeDim({ type }: Value, term: readonly LetterDim[], axis: string): number {
  return type.dims.findIndex(({ axes }, d) => term[d].whole && axes.includes(axis));
}

/** A value whose split goes from one dimension to another; it stays as it is where one of them is -1. */
interface Move {
  readonly value: Value;
  readonly from: number;
  readonly to: number;
}

/** The values after their moves, all that go the same way in one exchange. */
function exchangeAll(moves: readonly Move[], axis: string): Value[] {
  const after = new Map<Move, Value>();
  for (const { from, to } of moves) {
    const alike = moves.filter((own) => own.from === from && own.to === to);
    if (from < 0 || to < 0 || after.has(alike[0])) continue;
    const values = ops.all_to_all(
      alike.map(({ value }) => value),
      { axis, from, to },
    );
    alike.forEach((own, i) => {
      after.set(own, values[i]);
    });
  }
  return moves.map((own) => after.get(own) ?? own.value);
}

/** The size of a letter's dimension in each operand, 0 where an operand lacks it. */
function sizesOfLetter(
  terms: readonly (readonly LetterDim[])[],
  operands: readonly Value[],
  letter: string,
): number[] {
  return terms.map(
    (dims, i) => operands[i].type.dims[dims.findIndex((own) => own.letter === letter)]?.size ?? 0,
  );
}

/** The letter to split instead: free everywhere, and in as many operands as possible; the longest of those. */
function freeLetter(
  terms: readonly (readonly LetterDim[])[],
  operands: readonly Value[],
  degree: number,
): string | null {
  const all = terms.flat();
  const free = [...new Set(all.map(({ letter }) => letter))].filter(
    (letter) => !all.some((own) => own.letter === letter && own.whole),
  );
  const count = (letter: string) => terms.filter((dims) => dims.some((own) => own.letter === letter)).length;
  const size = (letter: string) => Math.max(...sizesOfLetter(terms, operands, letter));
  const isOpen = (letter: string) =>
    terms.every((dims, i) =>
      dims.every((own, d) => own.letter !== letter || operands[i].type.dims[d].axes.length === 0),
    );
  const isGrouped = (letter: string) => all.some((own) => own.letter === letter && own.group > 1);
  const candidates = free.filter((letter) => isOpen(letter) && (size(letter) > 1 || isGrouped(letter)));
  const score = (letter: string) => (isGrouped(letter) ? 2 : size(letter) % degree === 0 ? 1 : 0);
  candidates.sort((a, b) => score(b) - score(a) || count(b) - count(a) || size(b) - size(a));
  return candidates[0] ?? null;
}

/** How often each index of an operand's dimension is repeated, and to what size it is then filled up with zeros. */
interface Filling {
  readonly times: number;
  readonly size: number;
}

/** Makes the number of groups divide: by repeating them within the grouped dimension, and then by filling up. */
function plan(
  terms: readonly (readonly LetterDim[])[],
  operands: readonly Value[],
  letter: string,
  degree: number,
): Filling[] {
  const sizes = sizesOfLetter(terms, operands, letter);
  const longest = Math.max(...sizes);
  const groups = Math.min(...sizes.filter((size) => size > 0));
  const ratio = longest / groups;
  const repeats = Array.from({ length: ratio }, (_, i) => i + 1).find(
    (times) => ratio % times === 0 && (groups * times) % degree === 0,
  );
  if (repeats !== undefined)
    return sizes.map((size) => ({
      times: size === groups ? repeats : 1,
      size: size === groups ? groups * repeats : size,
    }));
  const filled = Math.ceil(longest / degree) * degree;
  return sizes.map((size) => ({ times: size === 0 ? 1 : longest / size, size: filled }));
}

function fill(x: Value, dim: number, { times, size }: Filling): Value {
  const repeated = times === 1 ? x : ops.repeat_interleave(x, { dim, times }, { name: x.name });
  return repeated.type.dims[dim].size === size
    ? repeated
    : ops.pad(repeated, { dim, start: 0, size }, { name: x.name });
}
