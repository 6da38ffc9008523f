/** @file Scaled dot-product attention with grouped heads and a mask that the compiler can see, and its gradient. */
import { type NDArray, zeros } from "../array.ts";
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients, Resizing } from "../op.ts";
import { sizesOf, type TensorType, tensor } from "../type.ts";
import { bytesOf } from "./cost.ts";

export interface AttentionAttrs {
  readonly causal: boolean;
  /** Whether segments may differ within a sample. */
  readonly packed: boolean;
  readonly window: number;
  readonly scale: number;
  readonly softcap: number;
}

const MASK_DOC =
  "Query i sees key j where segments[i] = segments[j] unless `packed` is false, and with `causal` j <= i, and with " +
  "`window` w > 0 also i - j < w. `softcap` c > 0 replaces a score s by c tanh(s / c). Queries may be split over ranks, " +
  "which know where their share begins; keys and segments may not.";

const attrs = { causal: true, packed: true, window: 0, scale: 1, softcap: 0 };

/** Whether query i may see key j of the same batch row. */
export function isVisible(
  i: number,
  j: number,
  segments: ArrayLike<number>,
  row: number,
  { causal, packed, window }: AttentionAttrs,
): boolean {
  return (
    (!packed || segments[row + i] === segments[row + j]) &&
    (!causal || j <= i) &&
    (window === 0 || i - j < window)
  );
}

/** Number of (query, key) pairs of one document of `length` tokens that the mask lets through. */
export function visiblePairs(
  length: number,
  { causal, window }: Pick<AttentionAttrs, "causal" | "window">,
): number {
  if (!causal) return length * length;
  if (window === 0 || window >= length) return (length * (length + 1)) / 2;
  return (window * (window + 1)) / 2 + (length - window) * window;
}

/** Sizes that all attention ops share; a rank may have fewer queries than keys. */
function shapeOf(q: readonly number[], k: readonly number[]) {
  const [batch, queries, heads, width] = q;
  return { batch, queries, keys: k[1], heads, width, kvHeads: k[2], group: heads / k[2] };
}

function checkOperands([q, k, v, segments]: readonly TensorType[]): void {
  const [qs, ks, vs] = [q, k, v].map(sizesOf);
  if (
    qs.length !== 4 ||
    ks.length !== 4 ||
    ks.join() !== vs.join() ||
    qs[0] !== ks[0] ||
    qs[1] !== ks[1] ||
    qs[3] !== ks[3]
  ) {
    throw new UserError(
      `q [${qs.join(", ")}], k [${ks.join(", ")}], v [${vs.join(", ")}] don't fit together`,
      {
        remedy:
          "They are [batch, sequence, heads, head_dim]; k and v are alike and may have fewer heads than q.",
      },
    );
  }
  if (q.dtype !== k.dtype || k.dtype !== v.dtype) {
    throw new UserError(`element types ${q.dtype}, ${k.dtype} and ${v.dtype} of q, k and v differ`, {
      remedy: "Cast them to one type.",
    });
  }
  if (qs[2] % ks[2] !== 0) {
    throw new UserError(`${qs[2]} query heads can't share ${ks[2]} key heads evenly`, {
      remedy: "The number of query heads must be a multiple of the number of key heads.",
    });
  }
  if (sizesOf(segments).join() !== qs.slice(0, 2).join() || segments.dtype !== "i32") {
    throw new UserError(`segments must be i32[${qs.slice(0, 2).join(", ")}]`);
  }
}

interface Row {
  readonly b: number;
  readonly i: number;
  readonly h: number;
  readonly g: number;
  /** The keys that the query sees; of others `p` and `slope` say nothing. */
  readonly seen: readonly number[];
  readonly p: Float64Array;
  readonly slope: Float64Array;
  readonly lse: number;
}

/**
 * Calls `visit` for every query row with the probabilities of the keys it sees, in arrays that the next row overwrites.
 * The first query stands at position `start` among the keys.
 */
function forEachRow(
  [q, k, segments]: readonly NDArray[],
  options: AttentionAttrs,
  start: number,
  visit: (row: Row) => void,
): void {
  const { batch, queries, keys, heads, width, kvHeads, group } = shapeOf(q.sizes, k.sizes);
  const { scale, softcap } = options;
  const [qs, ks] = [q.data, k.data];
  const [p, slope] = [new Float64Array(keys), new Float64Array(keys)];
  const positions = Array.from({ length: keys }, (_, j) => j);
  for (let b = 0; b < batch; b++) {
    for (let i = 0; i < queries; i++) {
      const seen = positions.filter((j) => isVisible(start + i, j, segments.data, b * keys, options));
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / group);
        const qAt = ((b * queries + i) * heads + h) * width;
        let max = Number.NEGATIVE_INFINITY;
        for (const j of seen) {
          const kAt = ((b * keys + j) * kvHeads + g) * width;
          let dot = 0;
          for (let d = 0; d < width; d++) dot += qs[qAt + d] * ks[kAt + d];
          const score = dot * scale;
          const capped = softcap > 0 ? Math.tanh(score / softcap) : 0;
          p[j] = softcap > 0 ? softcap * capped : score;
          slope[j] = scale * (1 - capped * capped);
          max = Math.max(max, p[j]);
        }
        let total = 0;
        for (const j of seen) total += Math.exp(p[j] - max);
        const lse = max + Math.log(total);
        for (const j of seen) p[j] = Math.exp(p[j] - lse);
        visit({ b, i, h, g, seen, p, slope, lse });
      }
    }
  }
}

/** Queries may be a part of the sequence, keys another. */
const QUERIES_AND_KEYS = [
  [0, 1],
  [1, 1],
] as const;

/** A window that hid something still does, and one that hid nothing still doesn't. */
function resizedWindow({ window }: { readonly window: number }, { operands, before }: Resizing) {
  const [now, was] = [operands[0][1], before.operands[0][1]];
  if (window === 0 || now === was) return {};
  if (window >= was) return { window: Math.max(window - was, 0) + now };
  return { window: Math.min(Math.max(Math.round((window * now) / was), 2), Math.max(now - 1, 1)) };
}

/** FLOPs of one product of scores' size, counting only visible pairs. */
function pairFlops(q: TensorType, options: AttentionAttrs): number {
  const [batch, sequence, heads, width] = sizesOf(q);
  return 2 * batch * heads * width * visiblePairs(sequence, options);
}

export const attention = defineOp({
  name: "attention",
  doc:
    "softmax(scale q k^T + mask) v over [batch, sequence, heads, head_dim], each key head shared by heads / key heads " +
    `query heads; also the log-sum-exp of each row in f32. ${MASK_DOC} Computed in blocks (Dao 2023, arXiv:2307.08691).`,
  operands: ["q", "k", "v", "segments"],
  results: ["out", "lse"],
  attrs,
  sharding: "bq(gr)d!, bs!gd!, bs!gd!, bs! -> bq(gr)d, bq(gr)",
  resize: resizedWindow,
  ties: QUERIES_AND_KEYS,
  infer: (types) => {
    checkOperands(types);
    return [tensor(types[0].dtype, sizesOf(types[0])), tensor("f32", sizesOf(types[0]).slice(0, 3))];
  },
  gradient: ({
    operands: [q, k, v, segments],
    results: [out, lse],
    attrs: options,
    grads: [dy, dLse],
  }): Gradients => {
    if (dLse) throw new UserError("no gradient passes through the log-sum-exp of attention");
    const [dq, dk, dv] = attention_grad(q, k, v, segments, out, lse, dy as Value, options);
    return [dq, dk, dv, null];
  },
  cost: (types, options, results) => ({
    flops: 2 * pairFlops(types[0], options),
    bytes: bytesOf(types, results),
  }),
  eval: ([q, k, v, segments], options, [sizes, lseSizes], [[, start]]) => {
    const [out, logSums] = [zeros(sizes), zeros(lseSizes)];
    const { queries, keys, heads, width, kvHeads } = shapeOf(q.sizes, k.sizes);
    forEachRow([q, k, segments], options, start, ({ b, i, h, g, seen, p, lse }) => {
      const row = (b * queries + i) * heads + h;
      logSums.data[row] = lse;
      for (const j of seen) {
        const vAt = ((b * keys + j) * kvHeads + g) * width;
        for (let d = 0; d < width; d++) out.data[row * width + d] += p[j] * v.data[vAt + d];
      }
    });
    return [out, logSums];
  },
});

export const attention_grad = defineOp({
  name: "attention_grad",
  doc: `Gradients of attention in q, k and v, the probabilities recomputed from lse. ${MASK_DOC}`,
  operands: ["q", "k", "v", "segments", "out", "lse", "dy"],
  results: ["dq", "dk", "dv"],
  attrs,
  sharding: "bq(gr)d!, bs!gd!, bs!gd!, bs!, bq(gr)d!, bq(gr), bq(gr)d! -> bq(gr)d, bsgd, bsgd",
  resize: resizedWindow,
  ties: QUERIES_AND_KEYS,
  infer: (types) => {
    checkOperands(types);
    return types.slice(0, 3).map((type) => tensor(type.dtype, sizesOf(type)));
  },
  gradient: null,
  cost: (types, options, results) => ({
    flops: 5 * pairFlops(types[0], options),
    bytes: bytesOf(types, results),
  }),
  eval: ([q, k, v, segments, out, , dy], options, [qSizes, kSizes, vSizes], [[, start]]) => {
    const [dq, dk, dv] = [zeros(qSizes), zeros(kSizes), zeros(vSizes)];
    const [dqs, dks, dvs, qs, ks, vs, dys] = [dq, dk, dv, q, k, v, dy].map(({ data }) => data);
    const { queries, keys, heads, width, kvHeads } = shapeOf(q.sizes, k.sizes);
    forEachRow([q, k, segments], options, start, ({ b, i, h, g, seen, p, slope }) => {
      const qAt = ((b * queries + i) * heads + h) * width;
      let delta = 0;
      for (let d = 0; d < width; d++) delta += dys[qAt + d] * out.data[qAt + d];
      for (const j of seen) {
        const kAt = ((b * keys + j) * kvHeads + g) * width;
        let dp = 0;
        for (let d = 0; d < width; d++) dp += dys[qAt + d] * vs[kAt + d];
        const ds = p[j] * (dp - delta) * slope[j];
        for (let d = 0; d < width; d++) {
          dqs[qAt + d] += ds * ks[kAt + d];
          dks[kAt + d] += ds * qs[qAt + d];
          dvs[kAt + d] += p[j] * dys[qAt + d];
        }
      }
    });
    return [dq, dk, dv];
  },
});
