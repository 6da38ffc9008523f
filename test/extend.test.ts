/** @file Passes of one's own in a configuration: put in, turned off, moved; the examples and the page that teaches them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { planConfig } from "../src/compile.ts";
import { loadConfig } from "../src/config/load.ts";
import { loadPasses } from "../src/extend/passes.ts";
import { allNodes } from "../src/ir/graph.ts";
import { parse } from "../src/ir/parse.ts";
import { builtinPasses, parsePasses, withPasses } from "../src/passes/arrange.ts";
import { numbersKept } from "../src/passes/check.ts";
import { runPipeline } from "../src/passes/run.ts";
import { refusalOf } from "./support/expect.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-extend-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const root = fileURLToPath(new URL("../", import.meta.url));

/** The pass that docs/passes.md teaches, as a reader would copy it. */
const page = readFileSync(join(root, "docs/passes.md"), "utf8");
const taught = join(scratch, "relu-gate.ts");
writeFileSync(taught, /```ts\n(.*?)```/s.exec(page)?.[1] as string);

const config = (passes: object[]) =>
  loadConfig(join(root, "examples/definition/config.yaml"), [`passes=${JSON.stringify(passes)}`]);
const names = async (passes: object[]) =>
  (await planConfig(config(passes), { stopAfter: "optimizer" })).stages.map(({ pass }) => pass);
const refusal = (passes: object[]): Promise<string> => refusalOf(() => names(passes));

describe("passes: in a configuration", () => {
  test("puts a pass behind another, with its options", async () => {
    const all = await names([{ file: taught, after: "ulysses", options: { by: 2 } }]);
    expect(all[all.indexOf("ulysses") + 1]).toBe("relu-gate");
  });
  test("turns ours off and moves them", async () => {
    expect(await names([{ pass: "simplify", enabled: false }])).not.toContain("simplify");
    const moved = await names([{ pass: "unroll", after: "precision" }]);
    expect(moved[moved.indexOf("precision") + 1]).toBe("unroll");
  });
  test("refuses an order that can't work, and says which would", async () => {
    expect(await refusal([{ pass: "optimizer", after: "unroll" }])).toBe(
      'passes: "optimizer" needs a graph that is "differentiated", and no pass before it makes it so\n' +
        '  Put it behind "differentiate": { pass: optimizer, after: differentiate }.',
    );
    expect(await refusal([{ pass: "differentiate", enabled: false }])).toContain(
      'Leave a pass that establishes "differentiated" in the pipeline.',
    );
  });
  test("refuses what isn't there", async () => {
    expect(await refusal([{ file: taught, after: "ulises" }])).toContain('Did you mean "ulysses"?');
    expect(await refusal([{ file: taught, options: { bye: 2 } }])).toContain('has no option "bye"');
    expect(await refusal([{ file: taught, pass: "other" }])).toContain("Say which with pass: relu-gate.");
    expect(await refusal([{ file: join(scratch, "none.ts") }])).toContain("there is no file");
    expect(await refusal([{ files: taught }])).toContain("it must be a list of { file or pass");
  });
});

describe("the examples", () => {
  const run = (file: string, list: string) => {
    const known = withPasses(builtinPasses(), loadPasses(file));
    const graph = parse(readFileSync(join(root, "examples/passes/mlp.ir"), "utf8"));
    const lines: string[] = [];
    const stages = runPipeline(graph, parsePasses(list, known), {
      compare: numbersKept({ report: (line) => lines.push(line) }),
    });
    return { ops: allNodes(stages[stages.length - 1].graph.nodes).map(({ op }) => op), lines };
  };
  test("gate-with-silu makes one op of two and keeps every bit", () => {
    const { ops, lines } = run(join(root, "examples/passes/gate-with-silu.ts"), "gate-with-silu; simplify");
    expect(ops).toEqual(["matmul", "matmul", "swiglu"]);
    expect(lines[0]).toBe("gate-with-silu: 1 results bit for bit");
  });
  test("count-ops changes nothing", () => {
    const { ops } = run(join(root, "examples/passes/count-ops.ts"), "count-ops least=100");
    expect(ops).toEqual(["matmul", "matmul", "silu", "mul"]);
  });
});
