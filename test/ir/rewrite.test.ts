/** @file rewrite: names are kept, what doesn't change stays the same object, bodies are asked too. */
import { describe, expect, test } from "vitest";
import { ops } from "../../src/ir/ops/index.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { type Handlers, keep, rewrite } from "../../src/ir/rewrite.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";

const graph = parse(`graph g {
  input %x : f32[2, 4]
  param %w : f32[4, 4]
  %h = silu %x : f32[2, 4] ; m.ts:1
  %y = matmul %h, %w : f32[2, 4] ; m.ts:2
  %z = tile %y, %h tiles=2 split=[0, 0] join=[0] : f32[2, 4] { ; m.ts:3
    param %a : f32[1, 4]
    param %b : f32[1, 4]
    %c = silu %a : f32[1, 4] ; m.ts:4
    %d = mul %c, %b : f32[1, 4]
    return %d
  }
  return out = %z
  update %w = %w
}`);

/** The changed lines of the text: those that are only in the new one. */
function added(handlers: Handlers): string[] {
  const after = rewrite(graph, handlers);
  expect(verify(after).map(printComplaint)).toEqual([]);
  const before = new Set(print(graph).split("\n"));
  return print(after)
    .split("\n")
    .filter((line) => !before.has(line))
    .map((line) => line.trim().replace(/ +/g, " "));
}

describe("rewrite", () => {
  test("returns the graph itself when every handler keeps its node", () => {
    expect(rewrite(graph, {})).toBe(graph);
    expect(rewrite(graph, { silu: () => keep, any: () => keep })).toBe(graph);
  });

  test("gives a replacement the name and line of what it replaces, in the graph and in bodies", () => {
    expect(added({ silu: (_, { x }) => ops.gelu(x) })).toEqual([
      "%h = gelu %x : f32[2, 4] ; m.ts:1",
      "%c = gelu %a : f32[1, 4] ; m.ts:4",
    ]);
  });

  test("names what comes in front after the value it serves", () => {
    expect(added({ matmul: (_, { a, b }) => ops.matmul(ops.scale(a, { by: 2 }), ops.neg(b)) })).toEqual([
      "%y.1 = scale %h by=2 : f32[2, 4] ; m.ts:2",
      "%y.2 = neg %w : f32[4, 4] ; m.ts:2",
      "%y = matmul %y.1, %y.2 : f32[2, 4] ; m.ts:2",
    ]);
  });

  test("takes a value that is there in place of a node, under its own name", () => {
    expect(added({ matmul: (_, { a }) => a })).toEqual([
      "%z = tile %h, %h tiles=2 split=[0, 0] join=[0] : f32[2, 4] { ; m.ts:3",
    ]);
  });

  test("retypes what follows, through the parameters of bodies", () => {
    const lowered = added({
      matmul: (_, { a, b }) => ops.cast(ops.matmul(a, b), { dtype: "bf16" }),
      any: () => keep,
      mul: (_, { a, b }) => ops.mul(a, ops.cast(b, { dtype: "bf16" })),
    });
    expect(lowered).toEqual([
      "%y.1 = matmul %h, %w : f32[2, 4] ; m.ts:2",
      "%y = cast %y.1 dtype=bf16 : bf16[2, 4] ; m.ts:2",
      "%z = tile %y, %h tiles=2 split=[0, 0] join=[0] : bf16[2, 4] { ; m.ts:3",
      "param %a : bf16[1, 4]",
      "%c = silu %a : bf16[1, 4] ; m.ts:4",
      "%b.1 = cast %b dtype=bf16 : bf16[1, 4]",
      "%d = mul %c, %b.1 : bf16[1, 4]",
    ]);
  });

  test("asks `any` for ops without a handler of their own, and for those only", () => {
    const seen: string[] = [];
    rewrite(graph, {
      silu: () => keep,
      any(node) {
        seen.push(node.op);
        return keep;
      },
    });
    expect(seen).toEqual(["matmul", "mul", "tile"]);
  });
});
