/** @file What verify says: for each property graphs that lack it, with the complaint as a person reads it. */
import { describe, expect, test } from "vitest";
import type { Graph, Node } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import { type PropertyName, printComplaint, verify } from "../../src/ir/verify.ts";

/** Statements of a graph over the mesh, and what is wrong with it. */
type Case = readonly [statements: string, ...complaints: string[]];

function complaintsOf(statements: string, property: PropertyName): string[] {
  const graph = parse(`graph g mesh(dp=2, sp=4) {\n${statements}\n}\n`, "g.ir");
  return verify(graph, [property]).map(printComplaint);
}

const typed: Record<string, Case> = {
  "a good graph": ["input %x : f32[4]\n%y = neg %x : f32[4]\nreturn out = %y"],
  "a type that the op doesn't give": [
    "input %x : f32[4]\n%y = neg %x : f32[8] ; m.ts:3",
    "m.ts:3: %y: is f32[8], but neg gives f32[4]",
  ],
  "a layout that the op doesn't give": [
    "input %x : f32[4@dp]\n%y = neg %x : f32[4]",
    "%y: is f32[4], but neg gives f32[4@dp]",
  ],
  "a partial sum that is not said": [
    "input %x : f32[4@dp]\n%y = sum %x dims=[0] : f32[]",
    "%y: is f32[], but sum gives f32[]{sum@dp}",
  ],
  "operands that don't fit": [
    "input %x : f32[4, 8]\ninput %w : f32[4, 8]\n%y = matmul %x, %w : f32[4, 8] ; m.ts:9",
    "m.ts:9: %y: matmul: [4, 8] by [4, 8]: 8 and 4 differ",
  ],
  "too few operands": ["input %x : f32[4]\n%y = add %x : f32[4]", "%y: add: takes 2 operands, not 1"],
  "too few dimensions": [
    "input %x : f32[]\ninput %w : f32[4]\n%y = rms_norm %x, %w : f32[]",
    "%y: rms_norm: x is f32[], but needs 1 or more dimensions, not 0",
  ],
  "too few results": [
    "input %x : i32[4]\n%c = rope_table %x : f32[4, 1]",
    "%c: rope_table has 2 results, not 1",
  ],
  "an uneven split": [
    "input %x : f32[6@sp]\n%y = neg %x : f32[6@sp]",
    "%x: 6 can't be shared evenly by the 4 ranks of sp",
    "%y: 6 can't be shared evenly by the 4 ranks of sp",
  ],
  "an axis that the mesh has not": ["input %x : f32[4@tp]", '%x: the mesh has no axis "tp"'],
  "an axis used twice": [
    "input %x : f32[4@dp, 4@dp]\ninput %y : f32[4@dp]{sum@dp}",
    '%x: uses axis "dp" twice',
    '%y: uses axis "dp" twice',
  ],
  "a family outside repeat": [
    "param %w : 3 x f32[4]\n%y = neg %w : f32[4]",
    "%y: a family of tensors goes into repeat only",
  ],
  "a body whose parameter is of another type": [
    "input %x : f32[4]\n%y = fused %x : f32[8] {\nparam %a : f32[8]\n%b = neg %a : f32[8]\nreturn %b\n}",
    "%y: fused: parameter %a of the body is f32[8], its operand gives f32[4]",
  ],
  "a body with too few parameters": [
    "input %x : f32[4]\n%y = tile %x tiles=2 split=[0] join=[0] : f32[4] {\n%b = constant dims=[2] : f32[2]\nreturn %b\n}",
    "%y: tile: the body of tile has 0 parameters for 1 operands",
  ],
  "a mistake inside a body": [
    "input %x : f32[4]\n%y = fused %x : f32[4] {\nparam %a : f32[4]\n%b = neg %a : f32[2]\nreturn %b\n}",
    "%b: is f32[2], but neg gives f32[4]",
    "%y: is f32[4], but fused gives f32[2]",
  ],
  "tiles with a rest that is no rest": [
    "input %x : f32[5]\n%y = tile %x tiles=2 rest=3 split=[0] join=[0] : f32[5] {\nparam %a : f32[2]\nreturn %a\n}",
    "%y: tile: dimension 0 of size 5 can't be cut into 2 tiles of which the last has 3",
  ],
  "a tile that says too little of what it cuts": [
    "input %x : f32[4]\ninput %z : f32[4]\n%y = tile %x, %z tiles=2 split=[0] join=[0] : f32[4] {\nparam %a : f32[2]\nparam %b : f32[4]\nreturn %a\n}",
    "%y: tile: split names 1 dimensions for 2 values",
  ],
  "a tile that says too little of what it puts together": [
    "input %x : f32[4]\n%y, %z = tile %x tiles=2 split=[0] join=[0] : f32[4], f32[2] {\nparam %a : f32[2]\nreturn %a, %a\n}",
    "%y: tile: join names 1 dimensions for 2 values",
  ],
  "a tile along a dimension that isn't there": [
    "input %x : f32[4]\n%y = tile %x tiles=2 split=[1] join=[0] : f32[4] {\nparam %a : f32[2]\nreturn %a\n}",
    "%y: tile: split[0] is 1, but the value is f32[4]",
  ],
  "a last tile whose body has a size of its own": [
    "input %x : f32[5]\n%y = tile %x tiles=2 rest=2 split=[0] join=[0] : f32[5] {\nparam %a : f32[3]\n%b = constant dims=[3] : f32[3]\nreturn %b\n}",
    "%y: tile: of the last tile %b is f32[3], not f32[2]",
  ],
  "tiles that don't divide": [
    "input %x : f32[5]\n%y = tile %x tiles=2 split=[0] join=[0] : f32[5] {\nparam %a : f32[2]\nreturn %a\n}",
    "%y: tile: dimension 0 of size 5 can't be cut into 2 equal tiles",
  ],
  "a repeat that hands on another type": [
    "input %x : f32[4]\n%y = repeat %x times=2 carry=1 : f32[4] {\nparam %a : f32[4]\n%b = cast %a dtype=bf16 : bf16[4]\nreturn %b\n}",
    "%y: repeat: the body of repeat must return the next values of what is carried, of the same types",
  ],
  "a family of another length": [
    "input %x : f32[4]\nparam %w : 3 x f32[4]\n%y = repeat %x, %w times=2 carry=1 : f32[4] {\nparam %a : f32[4]\nparam %b : f32[4]\nreturn %a\n}",
    "%y: repeat: operand 1 is a family of 3, the body runs 2 times",
  ],
  "an output that is overwritten": [
    "param %w : f32[4]\n%v = neg %w : f32[4]\nreturn out = %w\nupdate %w = %v",
    "%w: is returned, but it is updated: return its new value",
  ],
  "an update of another type": [
    "param %w : f32[4]\ninput %x : f32[2]\nupdate %w = %x",
    "%w: is f32[4] but its update %x is f32[2]",
  ],
  "a collective without its split": [
    "input %x : f32[4, 8]\n%y = all_gather %x axis=sp dim=1 : f32[4, 8]",
    '%y: all_gather: dimension 1 is not split over "sp"',
  ],
  "a collective that splits unevenly": [
    "input %x : f32[4@sp, 6]\n%y = all_to_all %x axis=sp from=0 to=1 : f32[4, 6@sp]",
    `%y: all_to_all: dimension 1 of size 6 can't be shared evenly by the 4 ranks of "sp"`,
    "%y: 6 can't be shared evenly by the 4 ranks of sp",
  ],
  "a sum over what is no partial sum": [
    "input %x : f32[4]\n%y = all_reduce %x axis=dp : f32[4]",
    '%y: all_reduce: the value is not a partial sum over "dp"',
  ],
  "an axis of a collective that the mesh has not": [
    "input %x : f32[4]\n%y = all_reduce %x axis=tp : f32[4]",
    '%y: all_reduce: the mesh has no axis "tp"',
  ],
  "an offload of what is in host memory": [
    "input %x : f32<host>[4]\n%y = offload %x : f32<host>[4]",
    "%y: offload: the value is in host memory already",
  ],
  "a spill of what is on the device": [
    "input %x : f32[4]\n%y = spill %x : f32<file>[4]",
    "%y: spill: the value is in device memory, not in host memory",
  ],
  "a kernel on what is in a file": [
    "input %x : f32<host>[4]\n%f = spill %x : f32<file>[4]\n%y = neg %f : f32<file>[4]",
    "%y: neg: %f is in a file, which only spill and fetch touch",
  ],
};

const laidOut: Record<string, Case> = {
  "attention on a part of the sequence": [
    `input %q : f32[2@dp, 8@sp, 4, 4]
     input %s : i32[2@dp, 8@sp]
     %o, %l = attention %q, %q, %q, %s : f32[2@dp, 8, 4, 4], f32[2@dp, 8, 4] ; m.ts:7`,
    "m.ts:7: %o: attention: k needs dimension s whole, but it is split over sp",
    "m.ts:7: %o: attention: v needs dimension s whole, but it is split over sp",
    "m.ts:7: %o: attention: segments needs dimension s whole, but it is split over sp",
  ],
  "attention on a part of the heads, all alike": [
    `input %q : f32[2, 8, 4@sp, 4]
     input %s : i32[2, 8]
     %o, %l = attention %q, %q, %q, %s : f32[2, 8, 4@sp, 4], f32[2, 8, 4@sp]`,
  ],
  "operands split differently": [
    "input %x : f32[4@dp]\ninput %y : f32[4]\n%z = add %x, %y : f32[4@dp]",
    "%z: add: b has dimension a split over [], another operand over [dp]",
  ],
  "two dimensions split over one axis": [
    "input %x : f32[4@dp, 8]\ninput %w : f32[8, 4@dp]\n%z = matmul %x, %w : f32[4@dp, 4@dp]",
    "%z: matmul: b has dimension n split over dp, as is dimension ...-1",
  ],
  "a partial sum where a sum can't wait": [
    "input %x : f32[4]{sum@dp}\n%y = silu %x : f32[4]{sum@dp}",
    "%y: silu: x is still to be summed over dp",
  ],
  "a partial sum beside a whole value": [
    "input %x : f32[4]{sum@dp}\ninput %y : f32[4]\n%z = add %x, %y : f32[4]{sum@dp}",
    "%z: add: a is still to be summed over dp, unlike another operand",
  ],
  "two partial sums": ["input %x : f32[4]{sum@dp}\n%z = add %x, %x : f32[4]{sum@dp}"],
  "a vocabulary split under a look-up": [
    "input %i : i32[4]\nparam %t : f32[8@sp, 4]\n%y = embedding %i, %t : f32[4, 4]{sum@sp}",
    "%y: embedding: table needs dimension v whole, but it is split over sp",
  ],
  "inside a body": [
    "input %x : f32[4@dp]\n%y = fused %x : f32[4@dp] {\nparam %a : f32[4@dp]\n%b = constant dims=[4] : f32[4]\n%c = add %a, %b : f32[4@dp]\nreturn %c\n}",
    "%c: add: b has dimension a split over [], another operand over [dp]",
  ],
};

const others: Record<string, readonly [PropertyName, ...Case]> = {
  "layers that are rolled up": [
    "flat",
    "input %x : f32[4]\nparam %w : 2 x f32[4]\n%y = repeat %x, %w times=2 carry=1 : f32[4] {\nparam %a : f32[4]\nparam %b : f32[4]\n%c = add %a, %b : f32[4]\nreturn %c\n}",
    "%y: repeat over layers is still rolled up",
  ],
  "micro batches, which stay rolled up": [
    "flat",
    "input %x : 2 x f32[4]\n%z = constant dims=[4] : f32[4]\n%y = repeat %z, %x times=2 carry=1 : f32[4] {\nparam %a : f32[4]\nparam %b : f32[4]\n%c = add %a, %b : f32[4]\nreturn %c\n}",
  ],
  "a parameter without a gradient": [
    "differentiated",
    "param %w : f32[4]\nparam %v : f32[4]\n%d.w = neg %w : f32[4]\nreturn d.w = %d.w",
    "%v: there is no gradient",
  ],
  "a parameter and a state without an update": [
    "updated",
    "param %w : f32[4]\nstate %m : f32[4]\ninput %x : f32[4]",
    "%w: there is no update",
    "%m: there is no update",
  ],
};

describe("typed", () => {
  test.each(Object.entries(typed))("%s", (_, [statements, ...complaints]) => {
    expect(complaintsOf(statements, "typed")).toEqual(complaints);
  });

  const good = parse(
    "graph g {\n  input %x : f32[4]\n  %y = neg %x : f32[4]\n  %z = exp %y : f32[4]\n  return out = %z\n}",
  );
  const withNodes = (nodes: readonly Node[]): Graph => ({ ...good, nodes });
  const said = (graph: Graph) => verify(graph).map(printComplaint);

  test("a value used before it is made", () => {
    expect(said(withNodes([good.nodes[1], good.nodes[0]]))).toEqual(["%y: is used before it is defined"]);
  });

  test("a name that two values have", () => {
    const twin = { ...good.nodes[0], results: [{ ...good.nodes[0].results[0] }] };
    expect(said(withNodes([good.nodes[0], twin, good.nodes[1]]))).toEqual([
      "%y: is defined twice",
      "%y: is used, but another value has that name here",
    ]);
  });

  test("an op that is none", () => {
    expect(said(withNodes([{ ...good.nodes[0], op: "nag" }, good.nodes[1]]))[0]).toBe(
      '%y: there is no op "nag"',
    );
  });

  test("an output of another graph", () => {
    const value = { name: "lost", type: good.nodes[0].results[0].type };
    expect(said({ ...good, outputs: [{ name: "out", value }] })).toEqual([
      "%lost: is used before it is defined",
    ]);
  });
});

describe("laid-out", () => {
  test.each(Object.entries(laidOut))("%s", (_, [statements, ...complaints]) => {
    expect(complaintsOf(statements, "laid-out")).toEqual(complaints);
  });
});

describe("other properties", () => {
  test.each(Object.entries(others))("%s", (_, [property, statements, ...complaints]) => {
    expect(complaintsOf(statements, property)).toEqual(complaints);
  });
});
