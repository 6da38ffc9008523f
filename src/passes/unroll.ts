/**
 * @file Unrolls the layers: every `repeat` over a family of parameters becomes its body, once for each member.
 *
 *     %h = repeat %x, %model.layers.*.norm.weight times=2 carry=1  : f32[1, 8, 4] {
 *       param %x                                                   : f32[1, 8, 4]
 *       param %w                                                   : f32[4]
 *       %y = rms_norm %x, %w                                       : f32[1, 8, 4]
 *       return %y
 *     }
 *
 *   becomes
 *
 *     %L0.y = rms_norm %x, %model.layers.0.norm.weight             : f32[1, 8, 4]
 *     %L1.y = rms_norm %L0.y, %model.layers.1.norm.weight          : f32[1, 8, 4]
 *
 * The same ops run on the same numbers in the same order. After this, every layer can be given its own treatment:
 * what to keep for backward, where its gradient lies, when it is updated. The price is a longer graph; loops over
 * anything but parameters (micro batches, tiles) stay loops.
 */
import { Builder } from "../ir/build.ts";
import type { Node, Param, Value } from "../ir/graph.ts";
import { memberOf } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const unroll = definePass({
  name: "unroll",
  summary: "writes out the layers that repeat holds rolled up",
  numerics: "exact",
  requires: [],
  establishes: ["flat"],
  options: {},

  run(graph) {
    const families = new Set(
      graph.params
        .filter(({ role, value }) => role !== "input" && value.type.times !== null)
        .map((p) => p.value),
    );
    if (families.size === 0) return graph;
    const builder = new Builder(graph.mesh);
    const env = new Map<Value, Value>();
    const members = new Map<Value, Value[]>();
    const params = graph.params.flatMap((param) => expand(param, families, members, builder, env));
    for (const node of graph.nodes) {
      if (node.op === "repeat" && node.operands.some((operand) => families.has(operand)))
        unrollNode(node, env, members, builder);
      else copy(node, "", env, builder);
    }
    return {
      ...graph,
      params,
      nodes: builder.nodes,
      outputs: graph.outputs.map(({ name, value }) => ({ name, value: env.get(value) as Value })),
      updates: graph.updates.map(({ param, value }) => ({
        param: env.get(param) as Value,
        value: env.get(value) as Value,
      })),
    };
  },
});

/** A family's members, named with the layer's number for `*`; any other parameter as it is. */
function expand(
  param: Param,
  families: ReadonlySet<Value>,
  members: Map<Value, Value[]>,
  builder: Builder,
  env: Map<Value, Value>,
): Param[] {
  const { value } = param;
  if (!families.has(value)) {
    builder.unique(value.name);
    env.set(value, value);
    return [param];
  }
  const own = Array.from({ length: value.type.times ?? 0 }, (_, i) => {
    const name = value.name.includes("*") ? value.name.replace("*", String(i)) : `${value.name}.${i}`;
    return { name: builder.unique(name), type: memberOf(value.type) };
  });
  members.set(value, own);
  return own.map((member) => ({ ...param, value: member }));
}

function unrollNode(
  node: Node,
  env: Map<Value, Value>,
  members: ReadonlyMap<Value, Value[]>,
  builder: Builder,
): void {
  const { times, carry } = node.attrs as { times: number; carry: number };
  const body = node.body;
  if (!body) throw new Error("repeat has no body");
  let carried = node.operands.slice(0, carry).map((operand) => env.get(operand) as Value);
  for (let i = 0; i < times; i++) {
    const inner = new Map<Value, Value>();
    body.params.forEach((param, at) => {
      const operand = node.operands[at];
      const value = at < carry ? carried[at] : (members.get(operand)?.[i] ?? env.get(operand));
      inner.set(param, value as Value);
    });
    for (const own of body.nodes) copy(own, `L${i}.`, inner, builder);
    carried = body.returns.map((value) => inner.get(value) as Value);
  }
  node.results.forEach((result, i) => {
    env.set(result, carried[i]);
  });
}

/** Appends `node` with mapped operands and prefixed names. Types don't change, so nothing is inferred again. */
function copy(node: Node, prefix: string, env: Map<Value, Value>, builder: Builder): void {
  const results = node.results.map((result) => ({
    name: builder.unique(prefix + result.name),
    type: result.type,
  }));
  builder.nodes.push({
    ...node,
    operands: node.operands.map((operand) => env.get(operand) as Value),
    results,
  });
  node.results.forEach((result, i) => {
    env.set(result, results[i]);
  });
}
