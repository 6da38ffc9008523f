/** @file The body of a `tile` on its last part, where that is smaller than the others. */
import { Builder } from "./build.ts";
import { UserError } from "./error.ts";
import type { Attrs, Node, Region, Value } from "./graph.ts";
import { letters } from "./layout.ts";
import { ruleOf } from "./op.ts";
import { recordOf } from "./ops/index.ts";
import { type Cut, resized } from "./ops/region.ts";
import { type Mesh, memberOf, printType, type TensorType } from "./type.ts";

/** The attributes of a `tile`. */
export interface TileAttrs extends Cut {
  readonly split: readonly number[];
  readonly join: readonly number[];
}

export function tileAttrs(node: Node): TileAttrs {
  return node.attrs as unknown as TileAttrs;
}

/**
 * The body of the tile `node` with everything sized for the last part; names stay. Throws a UserError where a size in
 * the body is fixed, or a result would not be the rest of what is put together.
 */
export function lastPart(node: Node, mesh: Mesh): Region {
  const { rest, split, join } = tileAttrs(node);
  const body = node.body as Region;
  const region = retyped(
    body,
    body.params.map((param, i) => resized(param.type, split[i], rest)),
    mesh,
  );
  region.returns.forEach(({ name, type }, i) => {
    const wanted = resized(body.returns[i].type, join[i], rest);
    if (printType(type) !== printType(wanted))
      throw new UserError(`of the last tile %${name} is ${printType(type)}, not ${printType(wanted)}`);
  });
  return region;
}

/** `region` on parameters of other sizes; names stay. Throws a UserError where a size in it can't follow. */
export function retyped(region: Region, types: readonly TensorType[], mesh: Mesh): Region {
  const builder = new Builder(mesh);
  const env = new Map<Value, Value>();
  const params = region.params.map(({ name }, i) => ({ name: builder.unique(name), type: types[i] }));
  region.params.forEach((param, i) => {
    env.set(param, params[i]);
  });
  const lookup = (value: Value): Value => env.get(value) as Value;
  for (const node of region.nodes) {
    const operands = node.operands.map(lookup);
    const body = node.body && retyped(node.body, bodyTypes(node, operands), mesh);
    const copy = builder.add(recordOf(node.op), operands, resizedAttrs(node, operands), {
      name: node.results.map(({ name }) => name),
      loc: node.loc,
      ...(body && { body }),
    });
    node.results.forEach((result, i) => {
      env.set(result, copy.results[i]);
    });
  }
  return builder.region(params, region.returns.map(lookup));
}

function bodyTypes(node: Node, operands: readonly Value[]): TensorType[] {
  if (node.op === "tile")
    throw new UserError("a tile inside another can't have a last part of another size", {
      location: node.loc,
      remedy: "Use a number of tiles that divides the dimension.",
    });
  return operands.map(({ type }) => memberOf(type));
}

/** Attributes that are sizes: those of the result follow the operands' dimensions, a number of heads what they are split from. */
function resizedAttrs(node: Node, operands: readonly Value[]): Attrs {
  const { sizes, heads } = node.attrs as { sizes?: readonly number[]; heads?: number };
  const types = node.operands.map(({ type }) => type);
  if (heads !== undefined) {
    const [before, now] = [types[0], operands[0].type].map(({ dims }) => dims[dims.length - 1].size);
    return { ...node.attrs, heads: (heads * now) / before };
  }
  if (sizes === undefined) return node.attrs;
  const results = node.results.map(({ type }) => type);
  const terms = letters(ruleOf(recordOf(node.op), node.attrs, types), types, results);
  const now = new Map(
    terms.operands.flatMap((dims, i) =>
      dims.map(({ letter }, d) => [letter, operands[i].type.dims[d].size] as const),
    ),
  );
  return {
    ...node.attrs,
    sizes: sizes.map((size, d) => now.get(terms.results[0][d].letter) ?? size),
  };
}
