/** @file Rotary position embedding (Su et al. 2021, arXiv:2104.09864), with Llama 3's frequency scaling. */
import { generate, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { elements, sizesOf, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

export interface RopeAttrs {
  readonly head_dim: number;
  readonly theta: number;
  readonly scaling: string;
  readonly factor: number;
  readonly low_freq_factor: number;
  readonly high_freq_factor: number;
  readonly original_max_position: number;
}

/**
 * Angle per position of each pair of elements, `head_dim / 2` numbers rounded to f32 as Hugging Face computes them.
 * `scaling` is "none", "linear" (divide by `factor`) or "llama3" (Llama 3.1: long wavelengths are stretched by
 * `factor`, short ones kept, those between interpolated).
 */
export function ropeFrequencies(attrs: RopeAttrs): number[] {
  const { head_dim, theta, scaling, factor, low_freq_factor, high_freq_factor, original_max_position } =
    attrs;
  return Array.from({ length: head_dim / 2 }, (_, i) => {
    const frequency = Math.fround(1 / Math.fround(theta ** Math.fround((2 * i) / head_dim)));
    if (scaling === "none") return frequency;
    if (scaling === "linear") return Math.fround(frequency / factor);
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < original_max_position / high_freq_factor) return frequency;
    if (wavelength > original_max_position / low_freq_factor) return Math.fround(frequency / factor);
    const smooth =
      (original_max_position / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
    return Math.fround(((1 - smooth) * frequency) / factor + smooth * frequency);
  });
}

export const rope_table = defineOp({
  name: "rope_table",
  doc:
    "Cosines and sines [..., head_dim / 2] of the angle position * frequency in f32; frequency i is theta^(-2i / head_dim), " +
    'changed by `scaling`: "none", "linear" or "llama3". All layers share the tables.',
  operands: ["positions"],
  results: ["cos", "sin"],
  attrs: {
    head_dim: 2,
    theta: 10000,
    scaling: "none",
    factor: 1,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position: 8192,
  },
  sharding: "... -> ...r, ...r",
  infer: ([positions], { head_dim, scaling }) => {
    if (positions.dtype !== "i32") throw new UserError(`positions must be i32, not ${positions.dtype}`);
    if (head_dim % 2 !== 0)
      throw new UserError(`head_dim ${head_dim} is odd`, {
        remedy: "Rotary embedding turns pairs of elements.",
      });
    if (!["none", "linear", "llama3"].includes(scaling)) {
      throw new UserError(`rope scaling "${scaling}" is not known`, {
        remedy: 'Use "none", "linear" or "llama3".',
      });
    }
    const table = tensor("f32", [...sizesOf(positions), head_dim / 2]);
    return [table, table];
  },
  resize: (_attrs, { results: [table] }) => ({ head_dim: 2 * (table.at(-1) as number) }),
  gradient: (): Gradients => [null],
  cost: (types, _attrs, results) => ({ flops: 20 * elements(results[0]), bytes: bytesOf(types, results) }),
  eval: ([positions], attrs, [sizes]) => {
    const frequencies = ropeFrequencies(attrs);
    const half = frequencies.length;
    const angle = (flat: number) =>
      Math.fround(positions.data[Math.floor(flat / half)] * frequencies[flat % half]);
    let flat = 0;
    const angles = generate(sizes, () => angle(flat++));
    return [
      { sizes, data: angles.data.map(Math.cos) },
      { sizes, data: angles.data.map(Math.sin) },
    ];
  },
});

export const rope = defineOp({
  name: "rope",
  doc:
    "Turns elements i and i + d/2 of each head of x [..., heads, d] by the angle whose cosine and sine are given; " +
    "`inverse` turns back, which is the gradient.",
  operands: ["x", "cos", "sin"],
  attrs: { inverse: false },
  sharding: "...hd!, ...r!, ...r! -> ...hd",
  ties: [
    [0, -1],
    [1, -1],
  ],
  overwrites: [[0, 0]],
  infer: ([x, cos]) => {
    const sizes = sizesOf(x);
    if (sizes.length < 2 || sizes[sizes.length - 1] !== 2 * cos.dims[cos.dims.length - 1].size) {
      throw new UserError(`[${sizes.join(", ")}] can't be turned by tables of [${sizesOf(cos).join(", ")}]`, {
        remedy: "x is [..., heads, d] and the tables are [..., d / 2].",
      });
    }
    return [tensor(x.dtype, sizes)];
  },
  gradient: ({ operands: [, cos, sin], attrs: { inverse }, grads: [dy] }): Gradients => [
    rope(dy as Value, cos, sin, { inverse: !inverse }),
    null,
    null,
  ],
  cost: (types, _attrs, results) => ({ flops: 3 * elements(types[0]), bytes: bytesOf(types, results) }),
  eval: ([x, cos, sin], { inverse }, [sizes]) => {
    const [heads, d] = sizes.slice(-2);
    const half = d / 2;
    const result = zeros(sizes);
    for (let head = 0; head < x.data.length / d; head++) {
      const row = Math.floor(head / heads);
      for (let i = 0; i < half; i++) {
        const [a, b] = [x.data[head * d + i], x.data[head * d + i + half]];
        const c = cos.data[row * half + i];
        const s = sin.data[row * half + i] * (inverse ? -1 : 1);
        result.data[head * d + i] = a * c - b * s;
        result.data[head * d + i + half] = b * c + a * s;
      }
    }
    return [result];
  },
});
