/** @file Graphs as JSON: what is written is what the published schema says, and reads back as the same graph. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { UserError } from "../../src/ir/error.ts";
import { fromJson, type GraphJson, toJson } from "../../src/ir/json.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { verify } from "../../src/ir/verify.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, MIXED, PLAIN, TRAINING } from "../support/decoders.ts";
import { runs } from "../support/fuzz.ts";

const schema = JSON.parse(
  readFileSync(fileURLToPath(new URL("../../docs/ir.schema.json", import.meta.url)), "utf8"),
);
/** The published file as it would be used elsewhere: of `ithaca ir --json`, and of a graph alone. */
const published = z.fromJSONSchema(schema);
const aGraph = z.fromJSONSchema({ $ref: "#/$defs/graph", $defs: schema.$defs });

const stages = runPipeline(
  decoder({ ...PLAIN, sequence: 8, blocks: MIXED }, new Map([["sp", 2]])),
  trainingPipeline({ ...TRAINING, gradientAccumulationSteps: 2, lossTiles: 2, mlpTiles: 2 }),
);

test.each(stages.map(({ pass, graph }) => [pass, graph] as const))(
  "after %s: it is as the schema says, and comes back",
  (pass, graph) => {
    const json: unknown = JSON.parse(JSON.stringify(toJson(graph)));
    aGraph.parse(json);
    published.parse({ stages: [{ pass, text: print(graph), graph: json }] });
    const again = fromJson(json);
    expect(again).toEqual(graph);
    expect(print(again)).toBe(print(graph));
  },
);

test("numbers that JSON lacks", () => {
  const text =
    "graph g {\n  input %x : f32[2]\n  %y = scale %x by=-0 : f32[2]\n  %z = scale %y by=-Infinity : f32[2]\n  return z = %z\n}\n";
  const json = JSON.parse(JSON.stringify(toJson(parse(text))));
  expect(json.nodes.map(({ attrs }: { attrs: { by: unknown } }) => attrs.by)).toEqual(["-0", "-Infinity"]);
  aGraph.parse(json);
  expect(fromJson(json)).toEqual(parse(text));
});

describe("what is no graph", () => {
  const right = toJson(stages[0].graph);
  const said = (json: unknown): string => {
    try {
      fromJson(json, "g.json");
    } catch (error) {
      if (error instanceof UserError) return `${error.location}: ${error.message}`;
      throw error;
    }
    return "nothing was wrong";
  };
  const changed = (change: (graph: GraphJson) => void): GraphJson => {
    const copy = structuredClone(right);
    change(copy);
    return copy;
  };

  test("is refused with its place", () => {
    expect(said(right)).toBe("nothing was wrong");
    expect(said([])).toMatch(/^g\.json: it: /);
    expect(said({ ...right, edges: [] })).toContain("edges");
    expect(said(changed(({ nodes }) => void Object.assign(nodes[0], { op: 3 })))).toMatch(
      /^g\.json: nodes\.0\.op: /,
    );
  });
  test("is refused where names or attributes are wrong", () => {
    expect(said(changed(({ nodes }) => void nodes[0].operands.fill("none")))).toBe(
      "g.json: %none is not defined before it is used",
    );
    expect(said(changed(({ nodes }) => void Object.assign(nodes[0], { op: "addd" })))).toContain(
      'no op "addd"',
    );
    expect(said(changed(({ nodes }) => void Object.assign(nodes[0].attrs, { colour: 1 })))).toContain(
      'has no attribute "colour"',
    );
    expect(said(changed(({ params }) => void params.push(params[0])))).toContain("is defined twice");
  });
  test("is refused or reads, whatever was changed in it", () => {
    const strings = [...new Set(JSON.stringify(right).match(/"[^"]*"/g) ?? [])].map((word) =>
      JSON.parse(word),
    );
    const scrap = fc.oneof(
      fc.constantFrom<unknown>(null, -1, 0, 1.5, 1e9, "", "__proto__", "constructor", [], {}, true),
      fc.constantFrom<unknown>(...strings),
    );
    /** Every place in the graph, as the object and the key that hold it. */
    const places = (json: object): [Record<string, unknown>, string][] =>
      Object.entries(json).flatMap(([key, value]) => [
        [json as Record<string, unknown>, key],
        ...(typeof value === "object" && value !== null ? places(value) : []),
      ]);
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), scrap, (at, put) => {
        const copy = structuredClone(right);
        const all = places(copy);
        const [holder, key] = all[Math.floor(at * all.length)];
        holder[key] = put;
        try {
          const graph = fromJson(copy, "g.json");
          verify(graph, ["typed"]);
          print(graph);
        } catch (error) {
          if (!(error instanceof UserError && error.location === "g.json")) throw error;
        }
      }),
      runs(400),
    );
  });
  test("does not fit the published schema either", () => {
    expect(aGraph.safeParse(changed((graph) => void Object.assign(graph, { mesh: { sp: 2 } }))).success).toBe(
      false,
    );
    expect(published.safeParse({ stages: [{ pass: "input" }] }).success).toBe(false);
  });
});
