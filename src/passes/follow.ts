/** @file Follows a dimension of the inputs through a program: which dimension of every value it is, and what leaves it free. */
import type { Graph, Node, Region, Value } from "../ir/graph.ts";
import { letters } from "../ir/layout.ts";
import { ruleOf } from "../ir/op.ts";
import { recordOf } from "../ir/ops/index.ts";

/** For each value that has the dimension: its place among the value's own. */
export type Followed = ReadonlyMap<Value, number>;

/** Dimension `dim` of every input of two dimensions or more, through all of the graph and the bodies in it. */
export function followInputs(graph: Graph, dim: number): Followed {
  const places = new Map<Value, number>();
  for (const { role, value } of graph.params) {
    if (role === "input" && value.type.dims.length >= 2) places.set(value, dim);
  }
  for (const node of graph.nodes) follow(node, places);
  return places;
}

function follow(node: Node, places: Map<Value, number>): void {
  if (node.body) {
    followBody(node, node.body, places);
    return;
  }
  const terms = termsOf(node);
  if (terms === null) {
    // A collective changes who holds what, not what is where.
    node.results.forEach((result, i) => {
      const place = node.operands[i] && places.get(node.operands[i]);
      if (place !== undefined) places.set(result, place);
    });
    return;
  }
  const tracked = new Set(
    node.operands.flatMap((operand, i) => {
      const place = places.get(operand);
      return place === undefined ? [] : [terms.operands[i][place].letter];
    }),
  );
  node.results.forEach((result, i) => {
    const place = terms.results[i].findIndex(({ letter }) => tracked.has(letter));
    if (place >= 0) places.set(result, place);
  });
}

/** What goes in has the same places inside; what comes out, those of what the body returns. */
function followBody(node: Node, body: Region, places: Map<Value, number>): void {
  const hand = (from: Value, to: Value) => {
    const place = places.get(from);
    if (place !== undefined) places.set(to, place);
  };
  body.params.forEach((param, i) => {
    hand(node.operands[i], param);
  });
  for (const own of body.nodes) follow(own, places);
  node.results.forEach((result, i) => {
    hand(body.returns[i], result);
  });
}

/** The letters of a node's dimensions; null where it has no rule. */
export function termsOf(node: Node): ReturnType<typeof letters> | null {
  const types = node.operands.map(({ type }) => type);
  const rule = ruleOf(recordOf(node.op), node.attrs, types);
  if (rule === "moves" || rule === "body") return null;
  return letters(
    rule,
    types,
    node.results.map(({ type }) => type),
  );
}

/**
 * Whether the node can run on a part of the dimension: it is one letter of the rule, need not be whole, is nowhere summed
 * over, and every operand that has the letter is one that can be cut.
 */
export function isFree(node: Node, places: Followed): boolean {
  const terms = termsOf(node);
  if (terms === null || node.operands.length === 0) return false;
  const own = terms.operands.flatMap((dims, i) => {
    const place = places.get(node.operands[i]);
    return place === undefined ? [] : [dims[place]];
  });
  const letter = own[0]?.letter;
  if (letter === undefined || own.some((dim) => dim.letter !== letter || dim.whole)) return false;
  const agrees = terms.operands.every((dims, i) =>
    dims.every((dim, d) => dim.letter !== letter || places.get(node.operands[i]) === d),
  );
  return agrees && terms.results.every((dims) => dims.some((dim) => dim.letter === letter));
}
