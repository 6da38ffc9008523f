/**
 * @file Collectives. On the global value each is the identity: it changes only how the value lies on the ranks. So
 * their gradients are other collectives, and to verify them is to check types.
 */
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Value } from "../graph.ts";
import type { Gradients } from "../op.ts";
import { type Dim, DTYPE_BYTES, degreeOf, localBytes, type Mesh, type TensorType } from "../type.ts";
import { bytesOf } from "./cost.ts";

function degree(mesh: Mesh, axis: string): number {
  const size = mesh.get(axis);
  if (size === undefined) {
    throw new UserError(`the mesh has no axis "${axis}"`, {
      remedy: `Its axes are ${[...mesh.keys()].join(", ") || "none"}.`,
    });
  }
  return size;
}

function without(type: TensorType, dim: number, axis: string): readonly Dim[] {
  if (!type.dims[dim]?.axes.includes(axis))
    throw new UserError(`dimension ${dim} is not split over "${axis}"`);
  const minor = type.dims[dim].axes.at(-1);
  if (minor !== axis)
    throw new UserError(`dimension ${dim} is split over "${minor}" within "${axis}"`, {
      remedy: `Its parts lie together only for "${minor}": move or drop that split first.`,
    });
  return type.dims.map((own, i) =>
    i === dim ? { ...own, axes: own.axes.filter((name) => name !== axis) } : own,
  );
}

function withAxis(dims: readonly Dim[], dim: number, axis: string, mesh: Mesh): readonly Dim[] {
  const ranks = degree(mesh, axis);
  if (!dims[dim]) throw new UserError(`there is no dimension ${dim}`);
  if (dims[dim].axes.includes(axis)) throw new UserError(`dimension ${dim} is already split over "${axis}"`);
  const share = dims[dim].size / degreeOf(dims[dim], mesh);
  if (share % ranks !== 0) {
    throw new UserError(
      `dimension ${dim} of size ${dims[dim].size} can't be shared evenly by the ${ranks} ranks of "${axis}"`,
    );
  }
  return dims.map((own, i) => (i === dim ? { ...own, axes: [...own.axes, axis] } : own));
}

function dropPartial(type: TensorType, axis: string): readonly string[] {
  if (!type.partial.includes(axis)) throw new UserError(`the value is not a partial sum over "${axis}"`);
  return type.partial.filter((name) => name !== axis);
}

/** Bytes of a sum that every rank makes for itself: kSmallSumBytes of runtime/include/ithaca/comm.h. */
const SMALL_SUM_BYTES = 2 ** 14;

/** What all collectives share: evaluated on the global value they do nothing. */
const common = {
  operands: ["x"],
  sharding: "moves",
  identity: true,
  cost: (types: readonly TensorType[], _attrs: unknown, results: readonly TensorType[]) => ({
    flops: 0,
    bytes: bytesOf(types, results),
  }),
} as const;

export const all_to_all = defineOp({
  ...common,
  name: "all_to_all",
  doc:
    "Moves the split of each operand over `axis` from dimension `from` to dimension `to`. All operands travel in one " +
    "exchange: attention's q, k and v wait for each other once, not three times.",
  operands: ["...xs"],
  results: ["...ys"],
  attrs: { axis: "", from: 0, to: 0 },
  infer: (types, { axis, from, to }, { mesh }) =>
    types.map((x) => ({ ...x, dims: withAxis(without(x, from, axis), to, axis, mesh) })),
  gradient: ({ attrs: { axis, from, to }, grads }): Gradients => {
    const given = grads.filter((dy) => dy !== null);
    const back = [...all_to_all(given, { axis, from: to, to: from })];
    return grads.map((dy) => (dy === null ? null : (back.shift() as Value)));
  },
  sends: (types, { axis }, { mesh }) => {
    const ranks = degree(mesh, axis);
    return types.reduce((total, x) => total + (localBytes(x, mesh) / ranks) * (ranks - 1), 0);
  },
  eval: (xs) => [...xs],
});

export const all_gather = defineOp({
  ...common,
  name: "all_gather",
  doc: "Drops the split of dimension `dim` over `axis`: every rank gets the whole dimension.",
  attrs: { axis: "", dim: 0 },
  infer: ([x], { axis, dim }) => [{ ...x, dims: without(x, dim, axis) }],
  gradient: ({ attrs, grads: [dy] }): Gradients => [reduce_scatter(dy as Value, attrs)],
  sends: ([x], { axis }, { mesh }) => (degree(mesh, axis) - 1) * localBytes(x, mesh),
  eval: ([x]) => [x],
});

export const reduce_scatter = defineOp({
  ...common,
  name: "reduce_scatter",
  doc: "Turns a partial sum over `axis` into a split of dimension `dim`. bf16 is summed in f32.",
  attrs: { axis: "", dim: 0 },
  infer: ([x], { axis, dim }, { mesh }) => [
    { ...x, partial: dropPartial(x, axis), dims: withAxis(x.dims, dim, axis, mesh) },
  ],
  gradient: ({ attrs, grads: [dy] }): Gradients => [all_gather(dy as Value, attrs)],
  sends: (_types, { axis }, { results: [y], mesh }) => (degree(mesh, axis) - 1) * localBytes(y, mesh),
  eval: ([x]) => [x],
});

export const all_reduce = defineOp({
  ...common,
  name: "all_reduce",
  doc: "Sums a partial sum over `axis`: every rank gets the whole sum. bf16 is summed in f32.",
  attrs: { axis: "" },
  overwrites: [[0, 0]],
  infer: ([x], { axis }, { mesh }) => {
    degree(mesh, axis);
    return [{ ...x, partial: dropPartial(x, axis) }];
  },
  gradient: ({ grads: [dy] }): Gradients => [dy],
  // Each rank sums one part for all and gives it to the others; what is small or left over each sums for itself.
  sends: ([x], { axis }, { mesh }) => {
    const ranks = degree(mesh, axis);
    const bytes = localBytes(x, mesh);
    const size = DTYPE_BYTES[x.dtype];
    const part = bytes <= SMALL_SUM_BYTES ? 0 : Math.floor(bytes / size / ranks) * size;
    return (ranks - 1) * (2 * part + bytes - ranks * part);
  },
  eval: ([x]) => [x],
});
