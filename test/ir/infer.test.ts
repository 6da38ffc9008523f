/** @file Inference refuses what doesn't fit, whatever the operands: with a sentence for the user, never with a crash. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Builder, building } from "../../src/ir/build.ts";
import { UserError } from "../../src/ir/error.ts";
import type { Attrs } from "../../src/ir/graph.ts";
import { type OpName, opNames, recordOf } from "../../src/ir/ops/index.ts";
import { type DType, type TensorType, tensor } from "../../src/ir/type.ts";
import { verify } from "../../src/ir/verify.ts";
import { samples } from "../ops/samples.ts";
import { runs } from "../support/fuzz.ts";
import { prepare } from "../support/sample.ts";

const withoutBody = opNames.filter((op) => recordOf(op).sharding !== "body");

/** Operands as they are in a sample, or of odd shapes. */
const size = fc.constantFrom(1, 2, 3, 4, 8);
const odd: fc.Arbitrary<TensorType> = fc
  .tuple(fc.constantFrom<DType>("f32", "bf16", "i32"), fc.array(size, { maxLength: 4 }))
  .map(([dtype, sizes]) => tensor(dtype, sizes));
const calls = fc.constantFrom(...withoutBody).chain((op) =>
  fc.record({
    op: fc.constant<OpName>(op),
    sample: fc.nat({ max: samples[op].length - 1 }),
    changes: fc.array(fc.record({ at: fc.nat({ max: 7 }), type: odd }), { maxLength: 3 }),
    count: fc.oneof(
      { weight: 9, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.nat({ max: 4 }) },
    ),
    attrs: fc.dictionary(
      fc
        .constantFrom(...Object.keys(recordOf(op).attrs), "none")
        .filter((name) => name !== "none" || Object.keys(recordOf(op).attrs).length === 0),
      fc.oneof(fc.integer({ min: -3, max: 9 }), fc.array(fc.integer({ min: -2, max: 5 }), { maxLength: 4 })),
      { maxKeys: 1 },
    ),
  }),
);

test("inference gives whole, positive sizes or says what doesn't fit", () => {
  fc.assert(
    fc.property(calls, ({ op, sample, changes, count, attrs }) => {
      const prepared = prepare(op, samples[op][sample], "f32");
      const types = [...prepared.types];
      for (const { at, type } of changes) if (types.length > 0) types[at % types.length] = type;
      const builder = new Builder(prepared.mesh);
      const operands = (count === null ? types : types.slice(0, count)).map((type, i) =>
        builder.param("input", `x${i}`, type),
      );
      const defaults = recordOf(op).attrs;
      const fitting = Object.entries(attrs).filter(
        ([name, value]) =>
          typeof defaults[name] === typeof value && Array.isArray(defaults[name]) === Array.isArray(value),
      );
      const given: Partial<Attrs> = { ...prepared.attrs, ...Object.fromEntries(fitting) };
      try {
        building(builder, () => builder.add(recordOf(op), operands, given));
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        expect(error.message).not.toMatch(/undefined|NaN|\[object/);
        return;
      }
      for (const { type } of builder.nodes[0].results) {
        for (const dim of type.dims)
          expect(Number.isInteger(dim.size) && dim.size > 0, `${dim.size}`).toBe(true);
      }
      verify({
        name: op,
        mesh: prepared.mesh,
        params: builder.params,
        nodes: builder.nodes,
        outputs: [],
        updates: [],
      });
    }),
    runs(2000),
  );
});
