/** @file The ops that a model may use. Generated from the records in src/ir/ops: BLESS=1 npx vitest run test/nn. */
import type { Tensor } from "./tensor.ts";

/** a + b. */
export declare function add(a: Tensor, b: Tensor): Tensor;

/** a - b. */
export declare function sub(a: Tensor, b: Tensor): Tensor;

/** a * b. */
export declare function mul(a: Tensor, b: Tensor): Tensor;

/** a / b. */
export declare function div(a: Tensor, b: Tensor): Tensor;

/** -x. */
export declare function neg(x: Tensor): Tensor;

/** e to the x. */
export declare function exp(x: Tensor): Tensor;

/** natural logarithm. */
export declare function log(x: Tensor): Tensor;

/** square root. */
export declare function sqrt(x: Tensor): Tensor;

/** hyperbolic tangent. */
export declare function tanh(x: Tensor): Tensor;

/** 1 / (1 + exp(-x)). */
export declare function sigmoid(x: Tensor): Tensor;

/** x times a number known at compile time. */
export declare function scale(
  x: Tensor,
  attributes: {
    by: number;
  },
): Tensor;

/** max(x, 0). */
export declare function relu(x: Tensor): Tensor;

/** x * sigmoid(x), also called swish. */
export declare function silu(x: Tensor): Tensor;

/** GELU in its tanh form (Hendrycks and Gimpel 2016, arXiv:1606.08415). */
export declare function gelu(x: Tensor): Tensor;

/** silu(gate) * up (Shazeer 2020, arXiv:2002.05202). */
export declare function swiglu(gate: Tensor, up: Tensor): Tensor;

/**
 * Matrix product a b of a[..., k] and b[k, n]; with `transpose_b`, b is [n, k] as Hugging Face keeps
 * weights; with `transpose_a`, all leading dimensions of a[..., m] and b[..., n] are contracted to [m, n]
 * (weight gradients). Accumulates in f32; `dtype` is the element type of the result ("" = that of a).
 */
export declare function matmul(
  a: Tensor,
  b: Tensor,
  attributes?: {
    /** Default: false. */
    transpose_a?: boolean | undefined;
    /** Default: false. */
    transpose_b?: boolean | undefined;
  },
): Tensor;

/**
 * Row `ids` of the table [vocabulary, width]; `dtype` is the element type of the result ("" = that of the
 * table).
 */
export declare function embedding(ids: Tensor, table: Tensor): Tensor;

/**
 * Sum over the dimensions `dims`, accumulated in f32; `dtype` is the result's element type ("" = the
 * operand's).
 */
export declare function sum(
  x: Tensor,
  attributes: {
    dims: readonly number[];
  },
): Tensor;

/** Repeats x along new dimensions `dims` of the result, whose sizes are `sizes`. */
export declare function broadcast(
  x: Tensor,
  attributes: {
    dims: readonly number[];
    sizes: readonly number[];
  },
): Tensor;

/**
 * A tensor of sizes `dims` filled with `value`; zeros may be a partial sum over the axes `partial`
 * (`dp.sp`).
 */
export declare function constant(attributes: { value: number; dims: readonly number[] }): Tensor;

/** [..., heads * d] read as [..., heads, d]. No bytes move. */
export declare function split_heads(
  x: Tensor,
  attributes: {
    heads: number;
  },
): Tensor;

/** [..., heads, d] read as [..., heads * d]. No bytes move. */
export declare function merge_heads(x: Tensor): Tensor;

/** Reorders dimensions: dimension i of the result is dimension `order[i]` of x. */
export declare function transpose(
  x: Tensor,
  attributes: {
    order: readonly number[];
  },
): Tensor;

/** `length` elements of dimension `dim` from `start` on. */
export declare function slice(
  x: Tensor,
  attributes: {
    dim: number;
    start: number;
    length: number;
  },
): Tensor;

/** x at `start` of dimension `dim`, which has `size` elements; the others are zero. */
export declare function pad(
  x: Tensor,
  attributes: {
    dim: number;
    start: number;
    size: number;
  },
): Tensor;

/** The operands one after the other along dimension `dim`. */
export declare function concat(
  xs: readonly Tensor[],
  attributes: {
    dim: number;
  },
): Tensor;

/** Every index of dimension `dim` `times` times in a row: [0, 1] becomes [0, 0, 1, 1]. */
export declare function repeat_interleave(
  x: Tensor,
  attributes?: {
    /** Default: 0. */
    dim?: number | undefined;
    /** Default: 1. */
    times?: number | undefined;
  },
): Tensor;

/** Sums of `times` indices in a row of dimension `dim`, in f32: the gradient of repeat_interleave. */
export declare function sum_groups(
  x: Tensor,
  attributes?: {
    /** Default: 0. */
    dim?: number | undefined;
    /** Default: 1. */
    times?: number | undefined;
  },
): Tensor;

/**
 * x / sqrt(mean(x^2) + epsilon) * weight over the last dimension, in f32 (Zhang and Sennrich 2019,
 * arXiv:1910.07467).
 */
export declare function rms_norm(
  x: Tensor,
  weight: Tensor,
  attributes?: {
    /** Default: 0.000001. */
    epsilon?: number | undefined;
  },
): Tensor;

/**
 * Cosines and sines [..., head_dim / 2] of the angle position * frequency in f32; frequency i is theta^(-2i
 * / head_dim), changed by `scaling`: "none", "linear" or "llama3". All layers share the tables.
 */
export declare function rope_table(
  positions: Tensor,
  attributes: {
    head_dim: number;
    /** Default: 10000. */
    theta?: number | undefined;
    /** Default: "none". */
    scaling?: string | undefined;
    /** Default: 1. */
    factor?: number | undefined;
    /** Default: 1. */
    low_freq_factor?: number | undefined;
    /** Default: 4. */
    high_freq_factor?: number | undefined;
    /** Default: 8192. */
    original_max_position?: number | undefined;
  },
): { cos: Tensor; sin: Tensor };

/**
 * Turns elements i and i + d/2 of each head of x [..., heads, d] by the angle whose cosine and sine are
 * given; `inverse` turns back, which is the gradient.
 */
export declare function rope(x: Tensor, cos: Tensor, sin: Tensor): Tensor;

/**
 * softmax(scale q k^T + mask) v over [batch, sequence, heads, head_dim], each key head shared by heads /
 * key heads query heads; also the log-sum-exp of each row in f32. Query i sees key j where segments[i] =
 * segments[j] unless `packed` is false, and with `causal` j <= i, and with `window` w > 0 also i - j < w.
 * `softcap` c > 0 replaces a score s by c tanh(s / c). Queries may be split over ranks, which know where
 * their share begins; keys and segments may not. Computed in blocks (Dao 2023, arXiv:2307.08691).
 */
export declare function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  segments: Tensor,
  attributes: {
    /** Default: true. */
    causal?: boolean | undefined;
    /** Default: 0. */
    window?: number | undefined;
    scale: number;
    /** Default: 0. */
    softcap?: number | undefined;
  },
): Tensor;

/**
 * Sum over labelled positions of lse(logits) - logits[label], the number of labelled positions, and the
 * log-sum-exp of every labelled position in f32, 0 elsewhere. A label of -100 does not count.
 */
export declare function cross_entropy(logits: Tensor, labels: Tensor): { sum: Tensor; count: Tensor };
