/**
 * @file Sharding rules: how the layout of an op's results follows from the layout of its operands.
 *
 * A rule is einsum-like, `"...k, kn -> ...n"`: one term for each operand, an arrow, one term for each result. A
 * letter is a dimension; the same letter is split the same way wherever it stands. `...` stands for any number of
 * leading dimensions, the same in all terms that have it (`...!` where they must be whole). A letter on the left only is contracted: if it is split,
 * the results are partial sums. `!` behind a letter marks a dimension that the op must see whole. `(gr)` is one
 * dimension made of several, the major one first; a split of it is a split of its first letter. An empty term is a
 * scalar, `_` a dimension that takes part in nothing. A last operand term followed by `*` is repeated as needed.
 */
import type { Dim, TensorType } from "./type.ts";

/** One dimension of a term: a letter, or several for a grouped dimension. */
export interface TermDim {
  readonly letters: readonly string[];
  readonly whole: boolean;
}

interface Term {
  /** Position of `...` among the dimensions, or -1. */
  readonly ellipsis: number;
  readonly wholeEllipsis: boolean;
  readonly dims: readonly TermDim[];
}

export interface Rule {
  readonly operands: readonly Term[];
  readonly results: readonly Term[];
  readonly variadic: boolean;
}

/** One place where a layout breaks a rule. */
export interface LayoutComplaint {
  readonly operand: number;
  readonly dimension: string;
  readonly message: string;
}

const cache = new Map<string, Rule>();

/** Reads a rule. Rules are written by us, so a malformed one throws a plain Error. */
export function parseRule(text: string): Rule {
  const known = cache.get(text);
  if (known) return known;
  const [left, right] = text.split("->");
  if (right === undefined) throw new Error(`sharding rule "${text}" has no arrow`);
  const variadic = left.trimEnd().endsWith("*");
  const terms = (side: string): Term[] =>
    side.split(",").map((term) => parseTerm(term.trim().replace(/\*$/, "")));
  const rule = { operands: terms(left), results: terms(right), variadic };
  cache.set(text, rule);
  return rule;
}

function parseTerm(text: string): Term {
  const dims: TermDim[] = [];
  let ellipsis = -1;
  let wholeEllipsis = false;
  for (const [, dots, group, letter, bang] of text.matchAll(/(?:(\.\.\.)|\((\w+)\)|(\w))(!?)/g)) {
    if (dots) [ellipsis, wholeEllipsis] = [dims.length, bang === "!"];
    else dims.push({ letters: group ? [...group] : [letter], whole: bang === "!" });
  }
  return { ellipsis, wholeEllipsis, dims };
}

/** The term's dimensions laid against `rank` dimensions: letters of the ellipsis are `...0`, `...1`. */
function align(term: Term, rank: number): TermDim[] {
  if (term.ellipsis < 0) return [...term.dims];
  const extra = rank - term.dims.length;
  const dots = Array.from({ length: Math.max(extra, 0) }, (_, i) => ({
    letters: [`...${i - extra}`],
    whole: term.wholeEllipsis,
  }));
  return [...term.dims.slice(0, term.ellipsis), ...dots, ...term.dims.slice(term.ellipsis)];
}

/** The dimensions of each operand as the rule sees them; `ranks` are the operands' numbers of dimensions. */
export function termsOf(rule: Rule, ranks: readonly number[]): TermDim[][] {
  const last = rule.operands[rule.operands.length - 1];
  const terms = rule.variadic ? ranks.map((_, i) => rule.operands[i] ?? last) : rule.operands;
  return terms.map((term, i) => align(term, ranks[i]));
}

/** The first operand that has not as many dimensions as the rule gives it, and how many it needs; null if none. */
export function wrongRank(text: string, ranks: readonly number[]): { operand: number; needs: string } | null {
  const rule = parseRule(text);
  for (const [operand, rank] of ranks.entries()) {
    const term = rule.operands[operand];
    if (!term) return null;
    const count = term.dims.length;
    const free = term.ellipsis >= 0;
    if (free ? rank < count : rank !== count)
      return { operand, needs: free ? `${count} or more` : String(count) };
  }
  return null;
}

/** The axes of each letter, and what contradicts the rule. */
function collect(
  rule: Rule,
  types: readonly TensorType[],
): { axes: Map<string, readonly string[]>; whole: Set<string>; complaints: LayoutComplaint[] } {
  const axes = new Map<string, readonly string[]>();
  const whole = new Set<string>();
  const complaints: LayoutComplaint[] = [];
  const ranks = types.map((type) => type.dims.length);
  termsOf(rule, ranks).forEach((dims, operand) => {
    dims.forEach((dim, index) => {
      const [letter] = dim.letters;
      if (dim.whole) whole.add(letter);
      const split: Dim | undefined = types[operand].dims[index];
      if (!split || letter === "_" || split.size === 1) return;
      const complain = (message: string) => complaints.push({ operand, dimension: letter, message });
      if (dim.whole && split.axes.length > 0) {
        complain(`needs dimension ${letter} whole, but it is split over ${split.axes.join(", ")}`);
      }
      const before = axes.get(letter);
      if (before === undefined) axes.set(letter, split.axes);
      else if (before.join() !== split.axes.join()) {
        complain(
          `has dimension ${letter} split over [${split.axes.join(", ")}], another operand over [${before.join(", ")}]`,
        );
        if (before.length === 0) axes.set(letter, split.axes);
      }
      // A rank would see one block of each of the two, where it needs all pairs of blocks.
      for (const [other, over] of dim.whole ? [] : axes) {
        const common = other === letter ? [] : split.axes.filter((axis) => over.includes(axis));
        if (common.length > 0)
          complain(`has dimension ${letter} split over ${common.join(", ")}, as is dimension ${other}`);
      }
    });
  });
  return { axes, whole, complaints };
}

/** `inferred` (sizes and element types) with the layout that the rule derives from the operands. */
export function layoutOf(
  text: string,
  types: readonly TensorType[],
  inferred: readonly TensorType[],
): TensorType[] {
  if (types.every((type) => type.partial.length === 0 && type.dims.every((dim) => dim.axes.length === 0)))
    return [...inferred];
  const rule = parseRule(text);
  const { axes, whole } = collect(rule, types);
  return inferred.map((type, index) => {
    const dims = align(rule.results[index], type.dims.length);
    const kept = new Set(dims.map((dim) => dim.letters[0]));
    // What must be whole is never a sum of parts, even where it is not laid out yet.
    const isContracted = (letter: string) => !kept.has(letter) && !whole.has(letter);
    const contracted = [...axes].filter(([letter]) => isContracted(letter)).flatMap(([, over]) => over);
    const partial = [...new Set([...types.flatMap((operand) => operand.partial), ...contracted])].sort();
    return {
      ...type,
      dims: type.dims.map((dim, i) => ({
        size: dim.size,
        axes: dim.size === 1 ? [] : (axes.get(dims[i]?.letters[0] ?? "_") ?? []),
      })),
      partial,
    };
  });
}

/** What in the operands' layouts the op can't work with. Empty when the op can run on every rank's share. */
export function layoutComplaints(text: string, types: readonly TensorType[]): LayoutComplaint[] {
  if (types.every((type) => type.dims.every((dim) => dim.axes.length === 0))) return [];
  return collect(parseRule(text), types).complaints;
}

/** One dimension as a rule sees it: its letter (the first of a group), all of them, how many, whether it must be whole. */
export interface LetterDim {
  readonly letter: string;
  readonly letters: readonly string[];
  readonly group: number;
  readonly whole: boolean;
}

/** The letters of every dimension of operands and results. */
export function letters(
  text: string,
  types: readonly TensorType[],
  results: readonly TensorType[],
): { operands: LetterDim[][]; results: LetterDim[][] } {
  const rule = parseRule(text);
  const of = (dims: readonly TermDim[]) =>
    dims.map(
      ({ letters: own, whole }): LetterDim => ({
        letter: own[0],
        letters: own,
        group: own.length,
        whole,
      }),
    );
  const operands = termsOf(
    rule,
    types.map((type) => type.dims.length),
  );
  return {
    operands: operands.map(of),
    results: rule.results.map((term, i) => of(align(term, results[i].dims.length))),
  };
}
