/** @file The text is the program: what is printed reads back, and what doesn't read says where and why. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatError, UserError } from "../../src/ir/error.ts";
import { parse } from "../../src/ir/parse.ts";
import { print, printAttr } from "../../src/ir/print.ts";
import { memories, parseType, printType } from "../../src/ir/type.ts";
import { verify } from "../../src/ir/verify.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, onGraph, PLAIN, recipes, TRAINING } from "../support/decoders.ts";
import { runs } from "../support/fuzz.ts";

const example = `graph block mesh(dp=2, sp-a=4) {
  input %ids                                                     : i32[2@dp, 8@sp-a]
  param %layers.*.weight init="normal 0.02"                      : 3 x f32[4, 4]
  param %norm.weight init=ones                                   : f32[4]
  state %adamw.m.norm.weight                                     : f32<host>[4]
  %h = constant dims=[2, 8, 4] value=-0.5                        : f32[2, 8, 4]                          ; llama.ts:31
  %out = repeat %h, %layers.*.weight times=3 carry=1             : f32[2, 8, 4] {                        ; llama.ts:32:5
    param %x                                                     : f32[2, 8, 4]
    param %w                                                     : f32[4, 4]
    %y = matmul %x, %w transpose_b=true                          : f32[2, 8, 4]                          ; llama.ts:33
    return %y
  }
  %cos, %sin = rope_table %ids head_dim=4 scaling=llama3 factor=8 : f32[2@dp, 8@sp-a, 2], f32[2@dp, 8@sp-a, 2]
  %total = sum %out dims=[0, 1]                                  : f32[4]
  return loss = %total
  update %norm.weight = %total
}
`;

describe("print and parse", () => {
  test("an example prints as it was written, its attributes in the record's order", () => {
    expect(print(parse(example))).toBe(
      example.replace("dims=[2, 8, 4] value=-0.5", "value=-0.5 dims=[2, 8, 4]"),
    );
    expect(verify(parse(example))).toEqual([]);
  });

  test("comments, blank lines and spacing don't matter", () => {
    const loose =
      "# a comment\n\ngraph   g {\n#x\n  input  %a:f32[ 2,3 ]\n  %b=neg   %a : f32[2,3]\nreturn o=%b\n}\n\n";
    const tidy = print(parse(loose));
    expect(print(parse(tidy))).toBe(tidy);
    expect(tidy).toContain("%b = neg %a");
  });

  test("parse inverts print at every stage of training a random decoder", () => {
    fc.assert(
      fc.property(recipes, fc.constantFrom("fp32" as const, "bf16" as const), (recipe, precision) =>
        onGraph(recipe, (graph) => {
          const options = { ...TRAINING, precision, gradientAccumulationSteps: 2, lossTiles: 3 };
          for (const stage of runPipeline(graph, trainingPipeline(options)))
            expect(parse(print(stage.graph)), stage.pass).toEqual(stage.graph);
        }),
      ),
      runs(10),
    );
  });

  test("every number and string reads back", () => {
    const number = fc.oneof(fc.double({ noNaN: true }), fc.integer());
    const read = (attr: string) =>
      parse(`graph g {\n  %a = scale %x by=${attr} : f32[]\n}`.replace("{\n", "{\n  input %x : f32[]\n"));
    fc.assert(
      fc.property(number, (value) => {
        const by = read(printAttr(value)).nodes[0].attrs.by;
        expect(Object.is(by, value), `${value} came back as ${by}`).toBe(true);
      }),
      runs(300),
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const line = `graph g {\n  %a = constant dtype=${printAttr(text)} : f32[]\n}`;
        expect(parse(line).nodes[0].attrs.dtype).toBe(text);
      }),
      runs(300),
    );
  });

  test("every type reads back", () => {
    const axis = fc.constantFrom("dp", "sp", "tp", "sp-a", "x.1");
    const dim = fc.record({ size: fc.nat(), axes: fc.uniqueArray(axis, { maxLength: 2 }) });
    const type = fc.record({
      dtype: fc.constantFrom("f32" as const, "bf16" as const, "i32" as const),
      memory: fc.constantFrom(...memories),
      dims: fc.array(dim, { maxLength: 5 }),
      partial: fc.uniqueArray(axis, { maxLength: 2 }),
      times: fc.option(fc.nat()),
    });
    fc.assert(
      fc.property(type, (own) => {
        expect(parseType(printType(own))).toEqual(own);
      }),
      runs(300),
    );
  });
});

/** The text's third line is at fault; what a user reads. */
const refusals: Record<string, [line: string, message: string]> = {
  "an unknown op": [
    "  %y = rmsnorm %x : f32[4]",
    `g.ir:3:8: there is no op "rmsnorm"
    3 |   %y = rmsnorm %x : f32[4]
               ^
  docs/ops.md lists ours; --load FILE.ts adds those of a file.`,
  ],
  "a value that isn't there": [
    "  %y = neg %z : f32[4]",
    `g.ir:3:12: %z is not defined before this line
    3 |   %y = neg %z : f32[4]
                   ^`,
  ],
  "a name given twice": [
    "  %x = neg %x : f32[4]",
    `g.ir:3:3: %x is defined twice
    3 |   %x = neg %x : f32[4]
          ^`,
  ],
  "an unknown attribute": [
    "  %y = scale %x to=2 : f32[4]",
    `g.ir:3:17: scale has no attribute "to"
    3 |   %y = scale %x to=2 : f32[4]
                        ^
  scale takes by.`,
  ],
  "an attribute of another kind": [
    "  %y = scale %x by=twice : f32[4]",
    `g.ir:3:17: scale's attribute by is a number
    3 |   %y = scale %x by=twice : f32[4]
                        ^
  scale takes by.`,
  ],
  "an attribute for an op that takes none": [
    "  %y = neg %x times=2 : f32[4]",
    `g.ir:3:15: neg has no attribute "times"
    3 |   %y = neg %x times=2 : f32[4]
                      ^
  neg takes no attributes.`,
  ],
  "a type that is none": [
    "  %y = neg %x : f64[4]",
    `g.ir:3:17: "f64[4]" is not a type
    3 |   %y = neg %x : f64[4]
                        ^
  A type looks like bf16[2@dp, 4096@sp, 512] or i32[].`,
  ],
  "a dimension that is none": [
    "  %y = neg %x : f32[four]",
    `g.ir:3:17: "four" is not a dimension
    3 |   %y = neg %x : f32[four]
                        ^
  A dimension is a size and its axes: 4096@sp.`,
  ],
  "fewer types than results": [
    "  %y, %z = neg %x : f32[4]",
    `g.ir:3:27: 2 results but 1 types
    3 |   %y, %z = neg %x : f32[4]
                                  ^`,
  ],
  "no type at all": [
    "  %y = neg %x",
    `g.ir:3:14: 1 results but 0 types
    3 |   %y = neg %x
                     ^`,
  ],
  "a body where none belongs": [
    "  %y = neg %x : f32[4] {\n    return %x\n  }",
    `g.ir:3:25: neg has no body
    3 |   %y = neg %x : f32[4] {
                                ^`,
  ],
  "a missing body": [
    "  %y = repeat %x times=2 carry=1 : f32[4]",
    `g.ir:3:42: repeat needs a body in braces
    3 |   %y = repeat %x times=2 carry=1 : f32[4]
                                                 ^`,
  ],
  "something behind the type": [
    "  %y = neg %x : f32[4] and more",
    `g.ir:3:24: expected the end of the line
    3 |   %y = neg %x : f32[4] and more
                               ^`,
  ],
  "something behind a return": [
    "  return out = %x, %x",
    `g.ir:3:18: expected the end of the line
    3 |   return out = %x, %x
                         ^`,
  ],
  "an unfinished string": [
    '  %y = cast %x dtype="f32 : f32[4]',
    `g.ir:3:22: expected a closing quote
    3 |   %y = cast %x dtype="f32 : f32[4]
                             ^`,
  ],
  "an unfinished list": [
    "  %y = sum %x dims=[0 : f32[]",
    `g.ir:3:23: expected ","
    3 |   %y = sum %x dims=[0 : f32[]
                              ^`,
  ],
  "an unknown start": [
    "  param %w init=random : f32[4]",
    `g.ir:3:23: init=random is not known
    3 |   param %w init=random : f32[4]
                              ^
  Use zeros, ones or "normal 0.02".`,
  ],
  "an update of what is no parameter": [
    "  %y = neg %x : f32[4]\n  update %y = %x",
    `g.ir:4:12: %y is not a parameter or state
    4 |   update %y = %x
                   ^`,
  ],
  "a statement that is none": [
    "  = neg %x : f32[4]",
    `g.ir:3:3: expected an op
    3 |   = neg %x : f32[4]
          ^`,
  ],
};

describe("what can't be read says where and why", () => {
  test.each(Object.entries(refusals))("%s", (_, [line, message]) => {
    expect(messageOf(`graph g {\n  input %x : f32[4]\n${line}\n}\n`)).toBe(message);
  });

  test("a graph without an end", () => {
    expect(messageOf("graph g {\n  input %x : f32[4]\n")).toBe('g.ir:2: the text ends where "}" should be');
    expect(messageOf("")).toBe('g.ir:1: the text ends where "}" should be');
  });

  test("a second graph behind the first", () => {
    expect(messageOf("graph g {\n}\ngraph h {\n}\n")).toBe(`g.ir:3:1: expected nothing behind the graph
    3 | graph h {
        ^`);
  });

  test("an axis that the mesh has twice", () => {
    expect(messageOf("graph g mesh(dp=2, dp=4) {\n}\n")).toContain('g.ir:1:22: axis "dp" is there twice');
  });

  test("a value of the graph inside a body, which is closed", () => {
    const text =
      "graph g {\n  input %x : f32[]\n  %y = fused %x : f32[] {\n    %z = neg %x : f32[]\n    return %z\n  }\n}";
    expect(messageOf(text)).toContain("g.ir:4:14: %x is not defined before this line");
  });
});

function messageOf(text: string): string {
  try {
    parse(text, "g.ir");
  } catch (error) {
    if (error instanceof UserError) return formatError(error);
    throw error;
  }
  return "nothing was wrong";
}

describe("damaged text", () => {
  const texts = [example, print(decoder({ ...PLAIN, blocks: [{ kind: "layers", a: 0, b: 0 }] }))];
  const damage = fc.record({
    text: fc.constantFrom(...texts),
    at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    drop: fc.nat({ max: 12 }),
    insert: fc.oneof(
      fc.constantFrom("", "%", "{", "}", "[", "]", "@", ":", ";", "\n", '"', "=", " ", "e", "-", "__proto__"),
      fc.string({ maxLength: 5 }),
    ),
  });

  test("is refused as a user's error or reads as some other program, never anything else", () => {
    fc.assert(
      fc.property(damage, ({ text, at, drop, insert }) => {
        const from = Math.floor(at * text.length);
        const damaged = text.slice(0, from) + insert + text.slice(from + drop);
        let graph: ReturnType<typeof parse>;
        try {
          graph = parse(damaged);
        } catch (error) {
          if (!(error instanceof UserError)) throw error;
          expect(error.location).toMatch(/^graph\.ir:\d+/);
          return;
        }
        expect(print(parse(print(graph)))).toBe(print(graph));
        verify(graph, ["typed", "laid-out"]);
      }),
      runs(1500),
    );
  });
});
