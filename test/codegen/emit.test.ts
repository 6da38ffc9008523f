/** @file The C++ that is generated: what a person reads of a tiny program, and that compilers have nothing to say. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Source } from "../../src/codegen/build.ts";
import { emitCpu } from "../../src/codegen/cpu/emit.ts";
import { floatLiteral, missingExpressions } from "../../src/codegen/elementwise.ts";
import { findToolchain, generatedFlags, includeDirs, runProcess } from "../../src/codegen/toolchain.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { planFor } from "../support/compiled.ts";
import { decoder, PLAIN, TRAINING } from "../support/decoders.ts";
import { expectGolden } from "../support/golden.ts";

const folder = fileURLToPath(new URL("./tiny/", import.meta.url));
const tiny = (): Graph => parse(readFileSync(`${folder}tiny.ir`, "utf8"));
const emitted = (graph: Graph): Source[] => emitCpu(planFor(graph), { threads: 2, modelFlops: 1234 });

describe("the sources of a tiny program", () => {
  test.each(emitted(tiny()).map(({ path }) => path))("%s", (path) => {
    const source = emitted(tiny()).find((own) => own.path === path);
    expectGolden(folder + path, source?.text ?? "");
  });

  test("are the same bytes for the same plan, and carry another hash for another", () => {
    expect(emitted(tiny())).toEqual(emitted(tiny()));
    const hash = (sources: readonly Source[]) => /\.hash = "(\w+)"/.exec(sources.at(-1)?.text ?? "")?.[1];
    const other = parse(readFileSync(`${folder}tiny.ir`, "utf8").replace("m.ts:5", "n.ts:9"));
    expect(hash(emitted(other))).not.toBe(hash(emitted(tiny())));
  });
});

test("every elementwise op has an expression", () => {
  expect(missingExpressions()).toEqual([]);
});

test("float literals read back as the same f32", () => {
  const values = [
    0,
    1,
    -1,
    0.1,
    1e-8,
    0.02,
    1 / 3,
    1e20,
    3.4028234663852886e38,
    1.401298464324817e-45,
    16777216,
    123456789,
  ];
  for (const value of values) {
    const literal = floatLiteral(value);
    expect(literal).toMatch(/^-?\d[\d.]*(e[+-]?\d+)?f$/);
    expect(literal).toMatch(/[.e]/);
    expect(Math.fround(Number(literal.slice(0, -1)))).toBe(Math.fround(value));
  }
  expect([floatLiteral(Number.POSITIVE_INFINITY), floatLiteral(Number.NaN)]).toEqual(["INFINITY", "NAN"]);
});

/** Everything the compiler has to say about the sources under -Wall -Wextra. */
async function warningsOf(sources: readonly Source[]): Promise<string> {
  const { compiler } = await findToolchain();
  const build = mkdtempSync(join(tmpdir(), "ithaca-warnings-"));
  try {
    for (const { path, text } of sources) writeFileSync(join(build, path), text);
    const units = sources.filter(({ path }) => path.endsWith(".cc")).map(({ path }) => join(build, path));
    const includes = [build, ...includeDirs].map((path) => `-I${path}`);
    const flags = [...generatedFlags, "-O0", "-Wall", "-Wextra", "-fsyntax-only"];
    const { stderr, code } = await runProcess(compiler, [...flags, ...includes, ...units]);
    return code === 0 ? stderr : `exit code ${code}\n${stderr}`;
  } finally {
    rmSync(build, { recursive: true });
  }
}

describe("the compiler has nothing to say about", () => {
  test("the tiny program", async () => {
    expect(await warningsOf(emitted(tiny()))).toBe("");
  });

  test("a training step in bf16 with micro batches, tiles and checkpoints", async () => {
    const kinds = [
      "attention",
      "mlp",
      "layers",
      "tile",
      "attention layers",
      "bias",
      "halves",
      "turned",
    ] as const;
    const graph = decoder({ ...PLAIN, blocks: kinds.map((kind) => ({ kind, a: 0, b: 1 })) });
    const stages = runPipeline(
      graph,
      trainingPipeline({
        ...TRAINING,
        precision: "bf16",
        gradientAccumulationSteps: 2,
        lossTiles: 2,
        checkpointing: "attention",
      }),
    );
    expect(await warningsOf(emitted(stages[stages.length - 1].graph))).toBe("");
  });
});
