/** @file Ops with a body: `repeat` for layers and micro batches, `tile` for parts, `checkpoint` for recomputation, `fused` for kernels. */
import { defineOp } from "../define-op.ts";
import { UserError } from "../error.ts";
import type { Region } from "../graph.ts";
import { memberOf, printType, sameType, sizesOf, type TensorType } from "../type.ts";

function bodyOf(body: Region | null, name: string): Region {
  if (!body) throw new Error(`${name} has no body`);
  return body;
}

function checkParams(name: string, body: Region, expected: readonly TensorType[]): void {
  if (body.params.length !== expected.length) {
    throw new UserError(
      `the body of ${name} has ${body.params.length} parameters for ${expected.length} operands`,
    );
  }
  body.params.forEach((param, i) => {
    if (!sameType(param.type, expected[i])) {
      throw new UserError(
        `parameter %${param.name} of the body is ${printType(param.type)}, its operand gives ${printType(expected[i])}`,
      );
    }
  });
}

/** How a `tile` cuts: `rest` is the size of the last part where it is smaller than the others, else 0. */
export interface Cut {
  readonly tiles: number;
  readonly rest: number;
}

/** `type` with dimension `dim` of another size; as it is when dim is -1. */
export function resized(type: TensorType, dim: number, size: number): TensorType {
  if (dim < 0) return type;
  return { ...type, dims: type.dims.map((own, i) => (i === dim ? { ...own, size } : own)) };
}

/** Type of one part of an operand: dimension `dim` cut as said; whole when dim is -1. */
export function tileType(type: TensorType, dim: number, { tiles, rest }: Cut): TensorType {
  if (dim < 0) return type;
  const size = type.dims[dim]?.size ?? 0;
  const part = rest === 0 ? size / tiles : (size - rest) / (tiles - 1);
  if (!Number.isInteger(part) || part <= rest) {
    const last = rest === 0 ? "equal tiles" : `tiles of which the last has ${rest}`;
    throw new UserError(`dimension ${dim} of size ${size} can't be cut into ${tiles} ${last}`, {
      remedy:
        rest === 0
          ? `Use a number of tiles that divides ${size}, or say with \`rest\` how much is left for the last.`
          : `${size} less the rest must be ${tiles - 1} times a size larger than the rest.`,
    });
  }
  return resized(type, dim, part);
}

/** Where dimensions are named, there must be one for each value, and each must be one that the value has. */
function checkDimensions(name: string, dims: readonly number[], types: readonly TensorType[]): void {
  if (dims.length !== types.length)
    throw new UserError(`${name} names ${dims.length} dimensions for ${types.length} values`, {
      remedy: "Give one for each, -1 where there is none.",
    });
  dims.forEach((dim, i) => {
    if (!Number.isInteger(dim) || dim < -1 || dim >= types[i].dims.length)
      throw new UserError(`${name}[${i}] is ${dim}, but the value is ${printType(types[i])}`);
  });
}

export const repeat = defineOp({
  name: "repeat",
  doc:
    "Runs the body `times` times. The first `carry` operands are handed on: the body returns their next values, and the " +
    "results are the last ones. Of a family (`32 x f32[...]`) run i gets member i; every other operand is the same each time.",
  operands: ["...xs"],
  results: [],
  attrs: { times: 1, carry: 0 },
  sharding: "body",
  infer: (types, { times, carry }, { body }) => {
    const region = bodyOf(body, "repeat");
    types.forEach((type, i) => {
      if (type.times !== null && (type.times !== times || i < carry)) {
        throw new UserError(`operand ${i} is a family of ${type.times}, the body runs ${times} times`);
      }
    });
    checkParams("repeat", region, types.map(memberOf));
    if (
      region.returns.length !== carry ||
      region.returns.some((value, i) => !sameType(value.type, types[i]))
    ) {
      throw new UserError(
        "the body of repeat must return the next values of what is carried, of the same types",
      );
    }
    return types.slice(0, carry);
  },
  gradient: null,
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: null,
});

export const tile = defineOp({
  name: "tile",
  doc:
    "Runs the body on `tiles` parts of each rank's share, all equal or, where `rest` is not 0, the last of only that size. " +
    "Operand i is cut along dimension split[i] (-1: whole); result i is put together along dimension join[i] (-1: summed " +
    "over the tiles, in f32).",
  operands: ["...xs"],
  results: [],
  attrs: { tiles: 1, rest: 0, split: [] as readonly number[], join: [] as readonly number[] },
  sharding: "body",
  infer: (types, { tiles, rest, split, join }, { body }) => {
    const region = bodyOf(body, "tile");
    const returned = region.returns.map(({ type }) => type);
    if (tiles < 1 || (rest !== 0 && (rest < 1 || tiles < 2)))
      throw new UserError(`there can't be ${tiles} tiles with ${rest} left for the last`);
    checkDimensions("split", split, types);
    checkDimensions("join", join, returned);
    checkParams(
      "tile",
      region,
      types.map((type, i) => tileType(type, split[i], { tiles, rest })),
    );
    const parts = new Set(split.flatMap((dim, i) => (dim < 0 ? [] : [types[i].dims[dim].size])));
    if (rest !== 0 && parts.size > 1)
      throw new UserError(`what is cut has sizes ${[...parts].join(" and ")}, so the rest is not the same`);
    return returned.map((type, i) => {
      const size = type.dims[join[i]]?.size ?? 0;
      return resized(type, join[i], rest === 0 ? size * tiles : size * (tiles - 1) + rest);
    });
  },
  gradient: null,
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: null,
});

export const checkpoint = defineOp({
  name: "checkpoint",
  doc:
    "Runs the body once. Its gradient runs the body again instead of keeping what is inside until backward; the last " +
    "`kept` results are values of the body that are kept for it all the same.",
  operands: ["...xs"],
  results: [],
  attrs: { kept: 0 },
  sharding: "body",
  infer: (types, { kept }, { body }) => {
    const region = bodyOf(body, "checkpoint");
    checkParams("checkpoint", region, types);
    if (kept > region.returns.length)
      throw new UserError(`${kept} of ${region.returns.length} results can't be kept`);
    return region.returns.map((value) => value.type);
  },
  gradient: null,
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: null,
});

export const fused = defineOp({
  name: "fused",
  doc: "Elementwise ops that run as one generated kernel: each element is read once, each result written once.",
  operands: ["...xs"],
  results: [],
  attrs: {},
  sharding: "body",
  infer: (types, _attrs, { body }) => {
    const region = bodyOf(body, "fused");
    checkParams("fused", region, types);
    const sizes = sizesOf(region.returns[0].type).join();
    if (region.returns.some((value) => sizesOf(value.type).join() !== sizes)) {
      throw new UserError("the results of fused must have equal sizes");
    }
    return region.returns.map((value) => value.type);
  },
  gradient: null,
  cost: () => ({ flops: 0, bytes: 0 }),
  eval: null,
});
