/** @file Reproducible random numbers and arrays for tests. */
import { type NDArray, product } from "../../src/ir/array.ts";
import type { TensorType } from "../../src/ir/type.ts";
import { rounded } from "../../src/launch/elements.ts";

/** Numbers in [0, 1) from a 32-bit seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How an operand is filled. Numbers are representable in the operand's element type, so that kernels see the same. */
export type Fill =
  /** Normal with variance 1. */
  | "normal"
  /** Between 0.5 and 2. */
  | "positive"
  /** Of either sign, at least 0.1 from zero: away from relu's kink. */
  | "apart"
  /** Document numbers: rise along the last dimension, from 0. */
  | "segments"
  /** Positions along the last dimension, beginning again halfway. */
  | "positions"
  /** Integers from 0 up to, not including. */
  | { readonly below: number }
  /** Labels below this, about a third of them -100. */
  | { readonly labels: number }
  | { readonly value: number };

function normal(next: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

/** One number for place `column` of a row of `width`. */
function draw(fill: Fill, next: () => number, column: number, width: number): number {
  if (typeof fill === "object") {
    if ("value" in fill) return fill.value;
    if ("below" in fill) return Math.floor(next() * fill.below);
    return next() < 1 / 3 ? -100 : Math.floor(next() * fill.labels);
  }
  switch (fill) {
    case "normal":
      return normal(next);
    case "positive":
      return 0.5 + 1.5 * next();
    case "apart":
      return (next() < 0.5 ? -1 : 1) * (0.1 + Math.abs(normal(next)));
    case "segments":
      return Math.floor((2.5 * column) / width);
    case "positions":
      return column % Math.ceil(width / 2);
  }
}

/** An array for a value of `type`; a family's has its members first. */
export function filled(type: TensorType, fill: Fill, seed: number): NDArray {
  const sizes = [...(type.times === null ? [] : [type.times]), ...type.dims.map((dim) => dim.size)];
  const next = random(seed);
  const width = sizes.at(-1) ?? 1;
  const data = Float64Array.from({ length: product(sizes) }, (_, flat) =>
    rounded(draw(fill, next, flat % width, width), type.dtype),
  );
  return { sizes, data };
}

/** Largest difference relative to the largest magnitude expected. Infinity where one is not a number. */
export function errorOf(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  let [difference, size] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    const own = Math.abs(got[i] - want[i]);
    if (Number.isNaN(own) && !Object.is(got[i], want[i])) return Number.POSITIVE_INFINITY;
    difference = Math.max(difference, Number.isNaN(own) ? 0 : own);
    size = Math.max(size, Math.abs(want[i]));
  }
  return difference === 0 ? 0 : difference / Math.max(size, 1e-30);
}
