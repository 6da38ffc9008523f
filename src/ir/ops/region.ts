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

/** Type of one tile of an operand: dimension `dim` cut into `tiles` parts; whole when dim is -1. */
export function tileType(type: TensorType, dim: number, tiles: number): TensorType {
  if (dim < 0) return type;
  const size = type.dims[dim]?.size ?? 0;
  if (size % tiles !== 0) {
    throw new UserError(`dimension ${dim} of size ${size} can't be cut into ${tiles} equal tiles`, {
      remedy: `Use a number of tiles that divides ${size}.`,
    });
  }
  return { ...type, dims: type.dims.map((own, i) => (i === dim ? { ...own, size: size / tiles } : own)) };
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
    "Runs the body on `tiles` equal parts of each rank's share. Operand i is cut along dimension split[i] (-1: whole); " +
    "result i is put together along dimension join[i] (-1: summed over the tiles, in f32).",
  operands: ["...xs"],
  results: [],
  attrs: { tiles: 1, split: [] as readonly number[], join: [] as readonly number[] },
  sharding: "body",
  infer: (types, { tiles, split, join }, { body }) => {
    const region = bodyOf(body, "tile");
    checkParams(
      "tile",
      region,
      types.map((type, i) => tileType(type, split[i] ?? -1, tiles)),
    );
    return region.returns.map(({ type }, i) => {
      const dim = join[i] ?? -1;
      return {
        ...type,
        dims: type.dims.map((own, d) => (d === dim ? { ...own, size: own.size * tiles } : own)),
      };
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
