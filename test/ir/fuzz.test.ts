/** @file Text that is nearly a graph: the parser reads it, or says at which line and column it can't. Never anything else. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { planConfig } from "../../src/compile.ts";
import { loadConfig } from "../../src/config/load.ts";
import { UserError } from "../../src/ir/error.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { verify } from "../../src/ir/verify.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decoder, MIXED, PLAIN, TRAINING } from "../support/decoders.ts";
import { runs } from "../support/fuzz.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const stages = runPipeline(
  decoder({ ...PLAIN, sequence: 8, blocks: MIXED }, new Map([["sp", 2]])),
  trainingPipeline(TRAINING),
);
const texts = [stages[0], stages[stages.length - 1]].map(({ graph }) => print(graph));

/** Reads, verifies and prints what reads; anything but a located error of the user's is a fault. */
function survives(text: string): void {
  try {
    const graph = parse(text, "g.ir");
    verify(graph, ["typed"]);
    print(graph);
  } catch (error) {
    if (error instanceof UserError && /^g\.ir:\d+(:\d+)?$/.test(error.location ?? "")) return;
    throw new Error(`${(error as Error).message}\n\n${text}`, { cause: error });
  }
}

/** What an example may only plan with so far is left out. */
const BUILT = [
  `data=${root}test/golden/tokens.bin`,
  "parallel.zero_stage=0",
  "memory.optimizer_offload=off",
  "memory.parameter_offload=off",
];

const place = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const scrap = fc.oneof(
  fc.string({ maxLength: 5 }),
  fc.constantFrom(
    "%",
    "[",
    "]",
    "{",
    "}",
    "=",
    ",",
    ":",
    ";",
    '"',
    "\n",
    "@sp",
    "-1",
    "0",
    "1e999",
    "__proto__",
    "constructor",
    "tile",
    "repeat",
    "return ",
  ),
);

describe("fuzzed text", () => {
  test("with scraps put in, cut out or written over", () => {
    const edit = fc.record({ at: place, cut: fc.nat({ max: 12 }), scrap });
    fc.assert(
      fc.property(
        fc.constantFrom(...texts),
        fc.array(edit, { minLength: 1, maxLength: 3 }),
        (text, edits) => {
          survives(
            edits.reduce((own, { at, cut, scrap: put }) => {
              const from = Math.floor(at * own.length);
              return own.slice(0, from) + put + own.slice(from + cut);
            }, text),
          );
        },
      ),
      runs(400),
    );
  });

  test("with lines lost, doubled or exchanged", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...texts),
        place,
        place,
        fc.constantFrom("lose", "double", "exchange"),
        (text, a, b, how) => {
          const lines = text.split("\n");
          const [i, j] = [a, b].map((own) => Math.floor(own * lines.length));
          if (how === "lose") lines.splice(i, 1);
          else if (how === "double") lines.splice(j, 0, lines[i]);
          else [lines[i], lines[j]] = [lines[j], lines[i]];
          survives(lines.join("\n"));
        },
      ),
      runs(200),
    );
  });

  test("of no kind at all", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), survives), runs(300));
  });
});

describe("every stage of every example prints, reads back and prints the same", () => {
  const examples = readdirSync(join(root, "examples"), { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith("config.yaml") && !path.startsWith("bible"))
    .map((path) => join(root, "examples", path));
  test.each(
    examples.flatMap((path) => [1, 2].map((ranks) => [path.slice(root.length), ranks, path] as const)),
  )(
    "%s on %i ranks",
    async (_name, ranks, path) => {
      const config = loadConfig(path, [
        `parallel.sequence=${ranks}`,
        "gradient_accumulation_steps=2",
        ...BUILT,
      ]);
      const planned = await planConfig(config);
      for (const { pass, graph } of planned.stages) {
        const text = print(graph);
        const again = parse(text, pass);
        expect(again, pass).toEqual(graph);
        expect(print(again), pass).toBe(text);
      }
    },
    120_000,
  );
});
