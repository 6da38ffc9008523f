/**
 * @file The optimizer: mean loss, gradient norm, clipping and AdamW, appended behind the gradients.
 *
 *     return loss_sum = %loss, loss_count = %count, d.w = %d.w
 *
 *   becomes
 *
 *     %w.1, %w.1.m, %w.1.v = adamw %w, %d.w, %adamw.m.w, %adamw.v.w, %learning_rate, %step, %grad_scale
 *     return loss = ..., grad_norm = ..., tokens = ...
 *     update %w = %w.1 ...
 *
 * Gradients arrive as sums over tokens; `grad_scale` divides them by the number of labelled tokens of the whole global
 * batch and clips them by their global norm, as torch.nn.utils.clip_grad_norm_ does (norm + 1e-6 below the line). The
 * norm is that of the mean gradient, before clipping. Weight decay acts on parameters of two or more dimensions.
 * With clipping, every gradient waits for the last one; without, each can be used and forgotten at once.
 */
import type { NDArray } from "../ir/array.ts";
import { Builder, building } from "../ir/build.ts";
import { UserError } from "../ir/error.ts";
import type { Graph, Update, Value } from "../ir/graph.ts";
import type { Arrays, InterpretResult } from "../ir/interpret.ts";
import { ops } from "../ir/ops/index.ts";
import { tensor } from "../ir/type.ts";
import { definePass } from "./pass.ts";

/** What clip_grad_norm_ adds to the norm. */
const NORM_EPSILON = 1e-6;

export const optimizer = definePass({
  name: "optimizer",
  summary: "appends the mean loss, the gradient norm, clipping and AdamW",
  numerics: "exact",
  requires: ["differentiated"],
  establishes: ["updated"],
  options: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, max_grad_norm: 1 },

  run(graph, options) {
    const builder = Builder.continuing(graph);
    return building(builder, () => append(graph, builder, options));
  },

  reference,
});

/** torch.optim.AdamW and clip_grad_norm_ as their documentation writes them, element by element. */
function reference(
  { outputs }: InterpretResult,
  arrays: Arrays,
  graph: Graph,
  { beta1, beta2, epsilon, weight_decay, max_grad_norm }: Options,
): InterpretResult {
  const of = (name: string) => (outputs.get(name) ?? arrays.get(name)) as NDArray;
  const number = (name: string): number => of(name).data[0];
  const scalar = (value: number): NDArray => ({ sizes: [], data: Float64Array.of(value) });
  const tokens = number("loss_count");
  const weights = graph.params.filter(({ role }) => role === "param").map(({ value }) => value);
  const means = weights.map(({ name }) => of(`d.${name}`).data.map((d) => d / tokens));
  const norm = Math.sqrt(means.reduce((sum, own) => sum + own.reduce((total, d) => total + d * d, 0), 0));
  const clip = max_grad_norm > 0 ? Math.min(1, max_grad_norm / (norm + NORM_EPSILON)) : 1;
  const [rate, step] = [number("learning_rate"), number("step")];
  const updates = weights.flatMap(({ name, type }, i): [string, NDArray][] => {
    const { sizes, data } = of(name);
    const decay = type.dims.length >= 2 ? weight_decay : 0;
    const m = of(`adamw.m.${name}`).data.map((old, at) => beta1 * old + (1 - beta1) * clip * means[i][at]);
    const v = of(`adamw.v.${name}`).data.map(
      (old, at) => beta2 * old + (1 - beta2) * (clip * means[i][at]) ** 2,
    );
    const w = data.map((old, at) => {
      const [m_hat, v_hat] = [m[at] / (1 - beta1 ** step), v[at] / (1 - beta2 ** step)];
      return old - rate * decay * old - (rate * m_hat) / (Math.sqrt(v_hat) + epsilon);
    });
    return [
      [name, { sizes, data: w }],
      [`adamw.m.${name}`, { sizes, data: m }],
      [`adamw.v.${name}`, { sizes, data: v }],
    ];
  });
  const totals = { loss: number("loss_sum") / tokens, grad_norm: norm, tokens };
  return {
    outputs: new Map(Object.entries(totals).map(([name, value]) => [name, scalar(value)])),
    updates: new Map(updates),
  };
}

function output(graph: Graph, name: string): Value {
  const found = graph.outputs.find((own) => own.name === name);
  if (!found)
    throw new UserError(`the graph has no output "${name}"`, {
      remedy: "Run differentiate before optimizer.",
    });
  return found.value;
}

interface Options {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weight_decay: number;
  /** 0: no clipping. */
  readonly max_grad_norm: number;
}

function append(graph: Graph, builder: Builder, { max_grad_norm, weight_decay, ...adam }: Options): Graph {
  const rate = builder.param("input", "learning_rate", tensor("f32", []));
  const step = builder.param("input", "step", tensor("i32", []));
  const weights = graph.params.filter(({ role }) => role === "param").map(({ value }) => value);
  const grads = weights.map((weight) => output(graph, `d.${weight.name}`));

  const tokens = output(graph, "loss_count");
  const count = ops.cast(tokens, { dtype: "f32" }, { name: "count" });
  const loss = ops.div(output(graph, "loss_sum"), count, {}, { name: "loss" });
  const squares = grads.map((grad) => ops.sum_squares(grad, {}, { name: `${grad.name}.squares` }));
  const total = squares.reduce((sum, square) => ops.add(sum, square, {}, { name: "squares" }));
  const norm = ops.div(ops.sqrt(total, {}, { name: "norm_sum" }), count, {}, { name: "grad_norm" });
  const one = ops.constant({ value: 1 }, { name: "one" });
  const clip = max_grad_norm > 0 ? clipping(norm, one, max_grad_norm) : one;
  const scale = ops.div(clip, count, {}, { name: "grad_scale" });

  const updates = weights.flatMap((weight, i): Update[] => {
    const m = builder.param("state", `adamw.m.${weight.name}`, weight.type);
    const v = builder.param("state", `adamw.v.${weight.name}`, weight.type);
    const decay = weight.type.dims.length >= 2 ? weight_decay : 0;
    const [w1, m1, v1] = ops.adamw(
      weight,
      grads[i],
      m,
      v,
      rate,
      step,
      scale,
      { ...adam, weight_decay: decay },
      {
        name: [`${weight.name}.1`, `${m.name}.1`, `${v.name}.1`],
      },
    );
    return [
      { param: weight, value: w1 },
      { param: m, value: m1 },
      { param: v, value: v1 },
    ];
  });
  return {
    ...graph,
    params: builder.params,
    nodes: builder.nodes,
    outputs: [
      { name: "loss", value: loss },
      { name: "grad_norm", value: norm },
      { name: "tokens", value: tokens },
    ],
    updates,
  };
}

/** min(1, max_grad_norm / (norm + 1e-6)). */
function clipping(norm: Value, one: Value, max_grad_norm: number): Value {
  const limit = ops.constant({ value: max_grad_norm }, { name: "max_grad_norm" });
  const epsilon = ops.constant({ value: NORM_EPSILON }, { name: "norm_epsilon" });
  return ops.minimum(
    ops.div(limit, ops.add(norm, epsilon, {}, { name: "norm_safe" }), {}, { name: "clip_ratio" }),
    one,
    {},
    { name: "clip" },
  );
}
