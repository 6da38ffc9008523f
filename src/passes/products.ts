/** @file What a tile's body only returns to be summed and can be added straight onto a total: it never lies in memory itself. */
import type { Node, Region, Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { sizesOf } from "../ir/type.ts";

/** The body of a tile without such nodes, and those by their value: weight gradients, and elementwise sums in f32. */
export function splitAddends(
  body: Region,
  join: readonly number[],
): { nodes: readonly Node[]; addends: Map<Value, Node> } {
  const addends = new Map<Value, Node>();
  for (const node of body.nodes) {
    const [result] = node.results;
    const at = body.returns.indexOf(result);
    const read = body.nodes.some((other) => other.operands.includes(result));
    const sums = at >= 0 && join[at] < 0 && body.returns.lastIndexOf(result) === at;
    if (!sums || read || result.type.dtype !== "f32" || node.results.length !== 1) continue;
    if (isWeightGradient(node) || isElementwise(node)) addends.set(result, node);
  }
  return { nodes: body.nodes.filter((node) => !addends.has(node.results[0])), addends };
}

const isWeightGradient = ({ op, attrs }: Node): boolean => op === "matmul" && attrs.transpose_a === true;

/** Each element of the result is made of the same element of every operand. */
function isElementwise({ op, operands, results }: Node): boolean {
  if (op === "fused") return true;
  const sizes = sizesOf(results[0].type).join();
  return (
    recordOf(op).elementwise === true &&
    sizes !== "" &&
    operands.every(({ type }) => sizesOf(type).join() === sizes)
  );
}

/** The node that does what `addend` does and adds it onto `total`, its last operand, in place. */
export function ontoTotal(addend: Node, operands: readonly Value[], total: Value): Node {
  const all = [...operands, total];
  const results = [{ ...total }];
  if (isWeightGradient(addend)) return { ...addend, op: "matmul_add", operands: all, attrs: {}, results };
  const given: Region =
    addend.op === "fused" && addend.body
      ? addend.body
      : { params: addend.operands, nodes: [addend], returns: addend.results };
  const taken = new Set(
    [...given.params, ...given.nodes.flatMap((node) => node.results)].map(({ name }) => name),
  );
  const named = (name: string): Value => {
    let own = name;
    for (let i = 1; taken.has(own); i++) own = `${name}.${i}`;
    taken.add(own);
    return { name: own, type: total.type };
  };
  const [before, after] = [named("total"), named("total")];
  const add: Node = {
    op: "add",
    operands: [before, given.returns[0]],
    attrs: {},
    results: [after],
    body: null,
    loc: addend.loc,
  };
  const body: Region = {
    params: [...given.params, before],
    nodes: [...given.nodes, add],
    returns: [after],
  };
  return { ...addend, op: "fused", operands: all, attrs: {}, results, body };
}
