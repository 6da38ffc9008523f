/** @file The one way to change a graph: handlers by op name, asked for every node in order, bodies included. */
import { Builder, building, inferTypes, namesOf } from "./build.ts";
import type { Attrs, Graph, Node, Output, Param, Region, Update, Value } from "./graph.ts";
import type { Widened } from "./op.ts";
import { isOpName, type OpName, type ops, recordOf } from "./ops/index.ts";
import { sameType, type TensorType } from "./type.ts";

/** What a handler returns to leave its node as it is. */
export const keep = Symbol("keep");
export type Replacement = Value | readonly Value[] | typeof keep;

type RecordOf<K extends OpName> = (typeof ops)[K]["record"];

/** A node whose op is known: its attributes are that op's. */
export interface NodeOf<K extends OpName> extends Node {
  readonly op: K;
  readonly attrs: Attrs & Widened<RecordOf<K>["attrs"]>;
}

/** The operands, in the new graph, by the names of the op's record; those of `...xs` as one list. */
export type OperandsOf<K extends OpName> = {
  readonly [N in RecordOf<K>["operands"][number] & string as N extends `...${infer Rest}`
    ? Rest
    : N]: N extends `...${string}` ? readonly Value[] : Value;
};

export type Handlers = {
  readonly [K in OpName]?: (node: NodeOf<K>, operands: OperandsOf<K>) => Replacement;
} & {
  /** Asked for nodes that have no handler of their own. */
  readonly any?: (node: Node, operands: readonly Value[]) => Replacement;
};

/**
 * A graph in which every node is replaced by what its handler builds. A handler calls ops, which append in front of the
 * node's place; what it returns takes the node's names. Nodes after it get new types where their operands' have changed.
 * Returns `graph` itself when every handler kept its node.
 */
export function rewrite(graph: Graph, handlers: Handlers): Graph {
  const builder = new Builder(graph.mesh, namesOf(graph));
  const env = new Map<Value, Value>(graph.params.map(({ value }) => [value, value]));
  if (!rewriteNodes(graph.nodes, env, builder, handlers)) return graph;
  return {
    ...graph,
    nodes: builder.nodes,
    outputs: graph.outputs.map((output): Output => ({ ...output, value: lookup(env, output.value) })),
    updates: graph.updates.map((update): Update => ({ ...update, value: lookup(env, update.value) })),
  };
}

/** The graph with other types for its parameters; everything that depends on them follows. */
export function retype(graph: Graph, typeOf: (param: Param) => TensorType): Graph {
  const params = graph.params.map((param): Param => {
    const type = typeOf(param);
    return sameType(type, param.value.type) ? param : { ...param, value: { name: param.value.name, type } };
  });
  if (params.every((param, i) => param === graph.params[i])) return graph;
  const builder = new Builder(graph.mesh, namesOf(graph));
  const env = new Map<Value, Value>(graph.params.map(({ value }, i) => [value, params[i].value]));
  rewriteNodes(graph.nodes, env, builder, {});
  return {
    ...graph,
    params,
    nodes: builder.nodes,
    outputs: graph.outputs.map((output): Output => ({ ...output, value: lookup(env, output.value) })),
    updates: graph.updates.map(
      ({ param, value }): Update => ({ param: lookup(env, param), value: lookup(env, value) }),
    ),
  };
}

function lookup(env: ReadonlyMap<Value, Value>, value: Value): Value {
  const mapped = env.get(value);
  if (!mapped) throw new Error(`%${value.name} is used before it is defined`);
  return mapped;
}

function rewriteRegion(
  region: Region,
  params: readonly Value[],
  builder: Builder,
  handlers: Handlers,
): Region {
  const inner = new Builder(builder.mesh, [
    ...region.params.map((param) => param.name),
    ...region.nodes.flatMap((node) => node.results.map((result) => result.name)),
  ]);
  const env = new Map<Value, Value>(region.params.map((param, i) => [param, params[i]]));
  const changed = rewriteNodes(region.nodes, env, inner, handlers);
  const same = !changed && params.every((param, i) => param === region.params[i]);
  return same
    ? region
    : inner.region(
        params,
        region.returns.map((value) => lookup(env, value)),
      );
}

/** Appends the rewritten `nodes` to `builder`; says whether anything changed. */
function rewriteNodes(
  nodes: readonly Node[],
  env: Map<Value, Value>,
  builder: Builder,
  handlers: Handlers,
): boolean {
  let changed = false;
  for (const node of nodes) {
    const operands = node.operands.map((operand) => lookup(env, operand));
    const body = node.body && rewriteBody(node, node.body, operands, builder, handlers);
    const replacement = ask(node, operands, builder, handlers);
    if (replacement === keep) {
      const same = body === node.body && operands.every((operand, i) => operand === node.operands[i]);
      const copy = same ? node : retyped(node, operands, body, builder);
      builder.nodes.push(copy);
      node.results.forEach((result, i) => {
        env.set(result, copy.results[i]);
      });
      if (!same) changed = true;
      continue;
    }
    changed = true;
    const values = Array.isArray(replacement) ? (replacement as readonly Value[]) : [replacement as Value];
    node.results.forEach((result, i) => {
      // What was made just now takes the name; a value that stood there before keeps its own.
      if (values[i].name.startsWith(`${result.name}.`)) builder.rename(values[i], result.name);
      env.set(result, values[i]);
    });
  }
  return changed;
}

/** Parameters of a body follow their operands where types changed. */
function rewriteBody(
  node: Node,
  body: Region,
  operands: readonly Value[],
  builder: Builder,
  handlers: Handlers,
): Region {
  const params = body.params.map((param, i) => {
    if (sameType(operands[i].type, node.operands[i].type)) return param;
    const sizes = param.type.dims.map((dim, d) => ({ size: dim.size, axes: operands[i].type.dims[d].axes }));
    return { name: param.name, type: { ...operands[i].type, dims: sizes, times: param.type.times } };
  });
  return rewriteRegion(body, params, builder, handlers);
}

function retyped(node: Node, operands: readonly Value[], body: Region | null, builder: Builder): Node {
  const types = inferTypes(recordOf(node.op), operands, node.attrs, builder.mesh, body, node.loc);
  const results = node.results.map((result, i) =>
    sameType(types[i], result.type) ? result : { name: result.name, type: types[i] },
  );
  return { ...node, operands, body, results };
}

function ask(node: Node, operands: readonly Value[], builder: Builder, handlers: Handlers): Replacement {
  const own = isOpName(node.op)
    ? (handlers[node.op] as ((node: Node, operands: unknown) => Replacement) | undefined)
    : undefined;
  if (!own && !handlers.any) return keep;
  builder.loc = node.loc;
  builder.serving = node.results[0]?.name ?? node.op;
  return building(builder, () =>
    own ? own(node, namedOperands(node.op, operands)) : (handlers.any?.(node, operands) ?? keep),
  );
}

function namedOperands(op: string, operands: readonly Value[]): Record<string, Value | readonly Value[]> {
  const names = recordOf(op).operands;
  return Object.fromEntries(
    names.map((name, i) =>
      name.startsWith("...") ? [name.slice(3), operands.slice(i)] : [name, operands[i]],
    ),
  );
}
