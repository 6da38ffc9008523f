/**
 * @file Reverse-mode differentiation: appends the backward of the graph, node by node in reverse order.
 *
 * The output `loss_sum` begins with gradient 1; each node's record turns the gradients of its results into those of its
 * operands, and a value that is read more than once gets the sum:
 *
 *     %y = matmul %x, %w transpose_b=true          : f32[1, 8, 16]
 *
 *   gives, where %d.y is known,
 *
 *     %d.x = matmul %d.y, %w                       : f32[1, 8, 4]
 *     %d.w = matmul %d.y, %x transpose_a=true      : f32[16, 4]
 *
 * Gradients are of the *sum* of the losses, not of their mean: sums add up over micro batches, tiles and ranks without
 * knowing how the tokens were shared out, and the optimizer divides once by the number of labelled tokens. The graph
 * gets an output `d.NAME` for every parameter. What forward computes and backward reads stays alive in between; which
 * of it to keep is for later passes to decide. A `tile` or `checkpoint` gets one like it as its gradient, whose body runs
 * forward again: what is inside does not live from forward to backward.
 */
import { Builder, building } from "../ir/build.ts";
import { UserError } from "../ir/error.ts";
import type { Node, Output, Region, Value } from "../ir/graph.ts";
import { ops, recordOf } from "../ir/ops/index.ts";
import { tileAttrs } from "../ir/tiles.ts";
import { isFloat, type Mesh, sizesOf } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const differentiate = definePass({
  name: "differentiate",
  summary: "appends the gradient of the loss in every parameter",
  numerics: "exact",
  requires: ["flat"],
  establishes: ["differentiated"],
  options: { loss: "loss_sum" },

  run(graph, { loss }) {
    const output = graph.outputs.find(({ name }) => name === loss);
    if (!output)
      throw new UserError(`the graph has no output "${loss}" to differentiate`, {
        remedy: "A model's forward returns cross_entropy(...).",
      });
    const builder = Builder.continuing(graph);
    const weights = graph.params.filter(({ role }) => role === "param").map(({ value }) => value);
    const seed = building(builder, () =>
      ops.constant({ value: 1, dtype: "f32" }, { name: `d.${output.value.name}` }),
    );
    passedOn.add(seed);
    const grads = new Map<Value, Value>([[output.value, seed]]);
    backward(graph.nodes, new Set(weights), grads, builder);
    const outputs = weights.map(
      (weight): Output => ({
        name: `d.${weight.name}`,
        value: grads.get(weight) ?? noGradient(weight, builder),
      }),
    );
    return { ...graph, nodes: builder.nodes, outputs: [...graph.outputs, ...outputs] };
  },
});

function noGradient(weight: Value, builder: Builder): Value {
  return building(builder, () =>
    ops.constant({ dims: sizesOf(weight.type), dtype: weight.type.dtype }, { name: `d.${weight.name}` }),
  );
}

/** Values that depend on one of `sources`: only they need a gradient. */
function reached(nodes: readonly Node[], sources: ReadonlySet<Value>): Set<Value> {
  const reach = new Set(sources);
  for (const node of nodes) {
    if (node.operands.some((operand) => reach.has(operand))) {
      for (const result of node.results) if (isFloat(result.type)) reach.add(result);
    }
  }
  return reach;
}

/** Appends the backward of `nodes` to `builder`, adding to `grads` the gradient of everything that leads to `sources`. */
function backward(
  nodes: readonly Node[],
  sources: ReadonlySet<Value>,
  grads: Map<Value, Value>,
  builder: Builder,
): void {
  const reach = reached(nodes, sources);
  for (const node of [...nodes].reverse()) {
    if (
      !node.results.some((result) => grads.has(result)) ||
      !node.results.some((result) => reach.has(result))
    )
      continue;
    builder.loc = node.loc;
    builder.serving = `d.${node.results[0].name}`;
    if (node.op !== "cast") building(builder, () => roundGrads(node.results, grads));
    const operandGrads = building(builder, () => gradientsOf(node, grads, reach, builder));
    node.operands.forEach((operand, i) => {
      const grad = operandGrads[i];
      if (grad && reach.has(operand)) accumulate(operand, grad, grads, builder);
    });
  }
}

/** Values that are the gradient of something, and so have their name. */
const passedOn = new WeakSet<Value>();

function accumulate(operand: Value, grad: Value, grads: Map<Value, Value>, builder: Builder): void {
  const before = grads.get(operand);
  const name = `d.${operand.name}`;
  // A gradient made just now takes its name from what it belongs to; one that is passed on has one already.
  if (!before && grad.name.startsWith("d.") && !passedOn.has(grad))
    builder.rename(grad, builder.unique(name));
  passedOn.add(grad);
  const total = before ? building(builder, () => sumOf(before, grad, name)) : grad;
  grads.set(operand, total);
}

/** a + b; in f32 where only one of them is, as a norm's gradient in its bf16 weight. */
function sumOf(a: Value, b: Value, name: string): Value {
  if (a.type.dtype === b.type.dtype) return ops.add(a, b, {}, { name });
  const [wide, other] = [a, b].map((value) =>
    value.type.dtype === "f32" ? value : ops.cast(value, { dtype: "f32" }),
  );
  return ops.add(wide, other, {}, { name });
}

/**
 * Gradients in the type of their values: what a tile has summed up in f32 is rounded once. Only a cast takes them as they
 * are, which is where a weight's gradient stays f32.
 */
function roundGrads(values: readonly Value[], grads: Map<Value, Value>): void {
  for (const value of values) {
    const grad = grads.get(value);
    const { dtype } = value.type;
    if (grad && grad.type.dtype !== dtype) grads.set(value, ops.cast(grad, { dtype }));
  }
}

function gradientsOf(
  node: Node,
  grads: ReadonlyMap<Value, Value>,
  reach: ReadonlySet<Value>,
  builder: Builder,
): (Value | null)[] {
  if (node.op === "tile" && node.body) return tileGradient(node, node.body, grads, reach, builder);
  if (node.op === "checkpoint" && node.body)
    return checkpointGradient(node, node.body, grads, reach, builder);
  const { gradient } = recordOf(node.op);
  if (!gradient)
    throw new UserError(`${node.op} has no gradient`, {
      location: node.loc,
      remedy: "Use it only where no parameter's gradient passes.",
    });
  return gradient({
    operands: node.operands,
    results: node.results,
    attrs: node.attrs,
    grads: node.results.map((result) => grads.get(result) ?? null),
    body: node.body,
  });
}

/** A body that runs `body` again and then backward, and what it takes in and gives back. */
interface BackwardBody {
  readonly inner: Builder;
  /** Results of the forward node that have a gradient, and their parameters in the body. */
  readonly given: readonly { readonly index: number; readonly grad: Value }[];
  readonly params: readonly Value[];
  /** Indices of the operands that get a gradient, and these in the body. */
  readonly wanted: readonly number[];
  readonly returns: readonly Value[];
}

function backwardBody(
  node: Node,
  body: Region,
  forward: readonly Node[],
  grads: ReadonlyMap<Value, Value>,
  reach: ReadonlySet<Value>,
  builder: Builder,
): BackwardBody {
  const names = [...body.params, ...body.nodes.flatMap((own) => own.results)].map(({ name }) => name);
  const inner = new Builder(builder.mesh, names);
  inner.nodes.push(...forward);
  const given = node.results.flatMap((result, index) => {
    const grad = grads.get(result);
    return grad ? [{ index, grad }] : [];
  });
  const seeds = new Map<Value, Value>();
  const params = given.map(({ index }) => {
    const value = body.returns[index];
    const seed = { name: inner.unique(`d.${value.name}`), type: value.type };
    const before = seeds.get(value);
    seeds.set(value, before ? building(inner, () => ops.add(before, seed, {}, { name: seed.name })) : seed);
    return seed;
  });
  const candidates = node.operands.flatMap((operand, i) => (reach.has(operand) ? [i] : []));
  backward(body.nodes, new Set(candidates.map((i) => body.params[i])), seeds, inner);
  const wanted = candidates.filter((i) => seeds.has(body.params[i]));
  const returns = wanted.map((i) => seeds.get(body.params[i]) as Value);
  return { inner, given, params, wanted, returns };
}

/** The values of `body` that its backward reads, where every result has a gradient and every parameter wants one. */
export function readsOfBackward(body: Region, mesh: Mesh): Set<Value> {
  const node: Node = {
    op: "checkpoint",
    operands: body.params,
    attrs: { kept: 0 },
    results: body.returns,
    body,
    loc: "",
  };
  const float = new Set(body.params.filter(({ type }) => isFloat(type)));
  const grads = new Map(body.returns.map((value) => [value, value]));
  const { inner, returns } = backwardBody(node, body, [], grads, float, new Builder(mesh));
  const made = new Set(body.nodes.flatMap(({ results }) => results));
  const live = new Set(returns);
  const reads = new Set<Value>();
  for (const own of [...inner.nodes].reverse()) {
    if (!own.results.some((result) => live.has(result))) continue;
    for (const operand of own.operands) (made.has(operand) ? reads : live).add(operand);
  }
  return reads;
}

/** The gradient of a checkpoint: its body again, with what was kept taken from forward, and then backward. */
function checkpointGradient(
  node: Node,
  body: Region,
  grads: ReadonlyMap<Value, Value>,
  reach: ReadonlySet<Value>,
  builder: Builder,
): (Value | null)[] {
  const first = body.returns.length - (node.attrs.kept as number);
  const kept = body.returns.slice(first);
  const forward = body.nodes.filter((own) => !own.results.every((result) => kept.includes(result)));
  const { inner, given, params, wanted, returns } = backwardBody(node, body, forward, grads, reach, builder);
  const operands = [...node.operands, ...node.results.slice(first), ...given.map(({ grad }) => grad)];
  const region = inner.region([...body.params, ...kept, ...params], returns);
  const { results } = building(builder, () =>
    builder.add(recordOf("checkpoint"), operands, {}, { body: region }),
  );
  return node.operands.map((_, i) => (wanted.includes(i) ? results[wanted.indexOf(i)] : null));
}

/** The gradient of a tile: a tile over the same parts whose body runs forward and then backward. */
function tileGradient(
  node: Node,
  body: Region,
  grads: ReadonlyMap<Value, Value>,
  reach: ReadonlySet<Value>,
  builder: Builder,
): (Value | null)[] {
  const { tiles, rest, split, join } = tileAttrs(node);
  const { inner, given, params, wanted, returns } = backwardBody(
    node,
    body,
    body.nodes,
    grads,
    reach,
    builder,
  );
  // Sums over tiles are made in f32, whatever the element type of the weight.
  const sums = returns.map((grad, at) =>
    split[wanted[at]] < 0 && grad.type.dtype === "bf16"
      ? building(inner, () => ops.cast(grad, { dtype: "f32" }))
      : grad,
  );
  const operands = [...node.operands, ...given.map(({ grad }) => grad)];
  const attrs = {
    tiles,
    rest,
    split: [...split, ...given.map(({ index }) => join[index])],
    join: wanted.map((i) => split[i]),
  };
  const region = inner.region([...body.params, ...params], sums);
  const { results } = building(builder, () =>
    builder.add(recordOf("tile"), operands, attrs, { body: region }),
  );
  return node.operands.map((_, i) => (wanted.includes(i) ? results[wanted.indexOf(i)] : null));
}
