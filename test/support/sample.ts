/** @file Turns the sample of an op into types, arrays and a graph of that one op. */
import type { NDArray } from "../../src/ir/array.ts";
import { Builder, building, openBuilder } from "../../src/ir/build.ts";
import type { Attrs, Graph, Region, Value } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type OpName, recordOf } from "../../src/ir/ops/index.ts";
import { tileType } from "../../src/ir/ops/region.ts";
import { type Mesh, memberOf, parseType, type TensorType } from "../../src/ir/type.ts";
import { rounded } from "../../src/launch/elements.ts";
import type { Sample } from "../ops/samples.ts";
import { filled } from "./random.ts";

export interface Prepared {
  readonly op: OpName;
  readonly sample: Sample;
  readonly types: readonly TensorType[];
  readonly attrs: Partial<Attrs>;
  readonly mesh: Mesh;
  readonly arrays: readonly NDArray[];
}

/** The sample with `dtype` for the element type under test, and its operands filled. */
export function prepare(op: OpName, sample: Sample, dtype: "f32" | "bf16", seed = 1): Prepared {
  const types = sample.types.map((text) => parseType(text.replace(/(^|\s)f(?=[[<])/, `$1${dtype}`)));
  const attrs = Object.fromEntries(
    Object.entries(sample.attrs ?? {}).map(([name, value]) => [name, value === "f" ? dtype : value]),
  );
  const arrays: NDArray[] = [];
  types.forEach((type, i) => {
    const fill = sample.fill?.[i] ?? "normal";
    if (typeof fill === "object" && "of" in fill) {
      const { of, operands, result } = fill;
      const made = graphOf(
        of,
        { types: [], attrs: sharedAttrs(of, attrs) },
        operands.map((at) => types[at]),
      );
      const given = new Map(operands.map((at, j) => [`x${j}`, arrays[at]]));
      const whole = interpret(made, given).outputs.get(`r${result}`) as NDArray;
      arrays.push({ sizes: whole.sizes, data: whole.data.map((value) => rounded(value, type.dtype)) });
    } else arrays.push(filled(type, fill, seed * 1000 + i));
  });
  return { op, sample, types, attrs, mesh: new Map(Object.entries(sample.mesh ?? {})), arrays };
}

function sharedAttrs(op: OpName, attrs: Partial<Attrs>): Partial<Attrs> {
  return Object.fromEntries(Object.entries(attrs).filter(([name]) => name in recordOf(op).attrs));
}

/** Calls the op in the open builder, with the sample's body if it has one. */
export function call(
  op: OpName,
  sample: Sample,
  attrs: Partial<Attrs>,
  operands: readonly Value[],
  name?: string,
) {
  const body = sample.body && { body: bodyOf(op, sample, attrs, operands) };
  const wish = name === undefined ? {} : { name };
  return openBuilder().add(recordOf(op), operands, attrs, { ...body, ...wish }).results;
}

function bodyOf(op: OpName, sample: Sample, attrs: Partial<Attrs>, operands: readonly Value[]): Region {
  const inner = new Builder(openBuilder().mesh);
  const params = operands.map(({ type }, i): Value => {
    const { tiles, rest = 0, split } = attrs as { tiles: number; rest?: number; split: readonly number[] };
    const own = op === "tile" ? tileType(type, split[i], { tiles, rest }) : memberOf(type);
    return { name: inner.unique(`p${i}`), type: own };
  });
  const returns = building(inner, () => sample.body?.(params) ?? []);
  return inner.region(params, returns);
}

/** A graph of that op alone: inputs `x0`, `x1` ..., outputs `r0`, `r1` ... */
export function graphOf(
  op: OpName,
  sample: Pick<Sample, "types" | "attrs" | "body">,
  types: readonly TensorType[],
  mesh: Mesh = new Map(),
): Graph {
  const builder = new Builder(mesh);
  const operands = types.map((type, i) => builder.param("input", `x${i}`, type));
  const results = building(builder, () => call(op, sample, sample.attrs ?? {}, operands));
  return {
    name: op,
    mesh,
    params: builder.params,
    nodes: builder.nodes,
    outputs: results.map((value, i) => ({ name: `r${i}`, value })),
    updates: [],
  };
}

/** The graph of a prepared sample, and the arrays of its inputs by name. */
export function ready({ op, sample, attrs, types, mesh, arrays }: Prepared): {
  graph: Graph;
  given: Map<string, NDArray>;
} {
  const graph = graphOf(op, { ...sample, attrs }, types, mesh);
  return { graph, given: new Map(arrays.map((array, i) => [`x${i}`, array])) };
}
