/** @file Sharding rules: the layout of results that follows from that of operands. */
import { describe, expect, test } from "vitest";
import { layoutComplaints, layoutOf, parseRule, wrongRank } from "../../src/ir/layout.ts";
import { opNames, recordOf } from "../../src/ir/ops/index.ts";
import { parseType, printType, sizesOf, tensor } from "../../src/ir/type.ts";
import { samples } from "../ops/samples.ts";
import { prepare } from "../support/sample.ts";

/** Rule, operand types, sizes of the results, types of the results. */
const follows: readonly [title: string, rule: string, operands: string[], results: string[]][] = [
  ["nothing is split", "...k, kn -> ...n", ["f32[2, 4]", "f32[4, 8]"], ["f32[2, 8]"]],
  ["rows stay split", "...k, kn -> ...n", ["f32[2@dp, 4@sp, 4]", "f32[4, 8]"], ["f32[2@dp, 4@sp, 8]"]],
  ["columns become split", "...k, kn -> ...n", ["f32[2, 4]", "f32[4, 8@tp]"], ["f32[2, 8@tp]"]],
  [
    "what is contracted leaves partial sums",
    "...k, kn -> ...n",
    ["f32[2, 4@tp]", "f32[4@tp, 8]"],
    ["f32[2, 8]{sum@tp}"],
  ],
  [
    "over two axes",
    "...m, ...n -> mn",
    ["f32[2@dp, 4@sp, 6]", "f32[2@dp, 4@sp, 8]"],
    ["f32[6, 8]{sum@dp@sp}"],
  ],
  ["a split over two axes stays in order", "... -> ...", ["f32[8@sp@dp]"], ["f32[8@sp@dp]"]],
  [
    "partial sums are handed on",
    "ab, ab -> ab",
    ["f32[2, 4]{sum@dp}", "f32[2, 4]{sum@dp}"],
    ["f32[2, 4]{sum@dp}"],
  ],
  ["and join those of a contraction", "ab -> b", ["f32[2@sp, 4]{sum@dp}"], ["f32[4]{sum@dp@sp}"]],
  ["a group is split by its first letter", "...(hd) -> ...hd", ["f32[2, 8@tp]"], ["f32[2, 4@tp, 2]"]],
  ["and a first letter makes a split group", "...hd! -> ...(hd)", ["f32[2, 4@tp, 2]"], ["f32[2, 8@tp]"]],
  ["trailing dimensions are aligned", "ab, b -> ab", ["f32[2@dp, 4@tp]", "f32[4@tp]"], ["f32[2@dp, 4@tp]"]],
  ["a scalar takes part in nothing", "ab,  -> ab", ["f32[2@dp, 4]", "f32[]"], ["f32[2@dp, 4]"]],
  [
    "several results, each its own",
    "...v!, ... -> , ...",
    ["f32[2@dp, 4]", "i32[2@dp]"],
    ["f32[]{sum@dp}", "f32[2@dp]"],
  ],
  ["any number of operands", "az!* -> az!", ["f32[2@dp, 4]", "f32[2@dp, 3]"], ["f32[2@dp, 7]"]],
];

describe("layouts follow rules", () => {
  test.each(follows)("%s", (_, rule, operands, results) => {
    const types = operands.map(parseType);
    const inferred = results.map((text) => tensor(parseType(text).dtype, sizesOf(parseType(text))));
    expect(layoutComplaints(rule, types)).toEqual([]);
    expect(layoutOf(rule, types, inferred).map(printType)).toEqual(results);
  });
});

const refused: readonly [rule: string, operands: string[], message: string][] = [
  ["...n!, n! -> ...n", ["f32[2, 4@tp]", "f32[4]"], "needs dimension n whole, but it is split over tp"],
  [
    "ab, ab -> ab",
    ["f32[2@dp, 4]", "f32[2@sp, 4]"],
    "has dimension a split over [sp], another operand over [dp]",
  ],
  [
    "...k, kn -> ...n",
    ["f32[2@dp, 4]", "f32[4, 8@dp]"],
    "has dimension n split over dp, as is dimension ...-1",
  ],
  [
    "...!m, ...!n, mn -> mn",
    ["f32[2@dp, 4]", "f32[2@dp, 4]", "f32[4, 4]"],
    "needs dimension ...-1 whole, but it is split over dp",
  ],
];

test.each(refused)("%s refuses %j", (rule, operands, message) => {
  expect(layoutComplaints(rule, operands.map(parseType))[0]?.message).toBe(message);
});

test("a rule counts dimensions", () => {
  expect(wrongRank("...n!, n! -> ...n", [3, 1])).toBeNull();
  expect(wrongRank("...n!, n! -> ...n", [0, 1])).toEqual({ operand: 0, needs: "1 or more" });
  expect(wrongRank("...n!, n! -> ...n", [3, 2])).toEqual({ operand: 1, needs: "1" });
});

test("a rule without an arrow is our mistake, not the user's", () => {
  expect(() => parseRule("ab, b")).toThrow(/has no arrow/);
});

test("every op's rule has a term for each operand and each result", () => {
  for (const op of opNames) {
    const record = recordOf(op);
    for (const sample of samples[op]) {
      const { types } = prepare(op, sample, "f32");
      const text =
        typeof record.sharding === "string"
          ? record.sharding
          : record.sharding({ ...record.attrs, ...sample.attrs } as never, types);
      if (text === "moves" || text === "body") continue;
      const rule = parseRule(text);
      if (!rule.variadic) expect(rule.operands, `${op}: ${text}`).toHaveLength(types.length);
      expect(rule.results, `${op}: ${text}`).toHaveLength(record.results.length);
    }
  }
});
