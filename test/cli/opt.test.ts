/** @file `ithaca opt`: passes on text, from a file or standard input; of our own and of the user's. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";
import { parse } from "../../src/ir/parse.ts";
import { captured } from "../support/command-line.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-opt-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const said = captured();

function file(name: string, text: string): string {
  const path = join(scratch, name);
  writeFileSync(path, text);
  return path;
}

const graph = file(
  "attention.ir",
  `graph block mesh(sp=2) {
  input %q : f32[1, 8@sp, 4, 2]
  input %segments : i32[1, 8@sp]
  %out, %lse = attention %q, %q, %q, %segments : f32[1, 8@sp, 4, 2], f32[1, 8@sp, 4]          ; model.ts:7
  return out = %out
}
`,
);

describe("passes", () => {
  test("run in the order that is asked for, and the text that comes out reads back", async () => {
    expect(await runCommandLine(["opt", graph, "--passes", "ulysses axis=sp; simplify"])).toBe(0);
    expect(said.stderr).toBe("");
    expect(said.stdout).toContain("%q.1, %q.2, %q.3 = all_to_all %q, %q, %q axis=sp from=1 to=2");
    expect(parse(said.stdout).nodes.map(({ op }) => op)).toEqual([
      "all_to_all",
      "all_gather",
      "attention",
      "all_to_all",
    ]);
  });

  test("on standard input", () => {
    const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
    const { stdout: text, status } = spawnSync(
      process.execPath,
      ["--import", "tsx", main, "opt", "-", "-p", "ulysses"],
      { input: readFileSync(graph), encoding: "utf8" },
    );
    expect(status).toBe(0);
    expect(text).toContain("all_gather %segments axis=sp dim=1");
  });

  test("leave a file each, a table and a diff", async () => {
    const dump = join(scratch, "dump");
    const args = ["--passes", "ulysses; fuse", "--dump", dump, "--stats", "--diff"];
    expect(await runCommandLine(["opt", graph, ...args])).toBe(0);
    expect(readdirSync(dump)).toEqual(["00-input.ir", "01-ulysses.ir", "02-fuse.ir"]);
    expect(said.stdout).toContain("+  %out = all_to_all %out.1 axis=sp from=2 to=1");
    expect(said.stderr).toMatch(
      /^pass +ms +ops +bytes +FLOPs\ninput +0\.0 +1 +1\.18 k +1\.15 k\nulysses +[\d.]+ +4 /,
    );
    expect(said.stderr).toMatch(/fuse +[\d.]+ +=/);
  });

  test("as one JSON object", async () => {
    expect(await runCommandLine(["opt", graph, "--passes", "ulysses", "--json"])).toBe(0);
    const answer = JSON.parse(said.stdout);
    expect(parse(answer.text).nodes).toHaveLength(4);
    expect(answer.passes[1]).toMatchObject({ pass: "ulysses", nodes: 4, changed: true });
  });
});

describe("what is refused", () => {
  const refused = async (passes: string, path = graph): Promise<string> => {
    expect(await runCommandLine(["opt", path, "--passes", passes])).toBe(1);
    expect(said.stdout).toBe("");
    return said.stderr.trimEnd();
  };

  test("a pass that isn't there, with its column", async () => {
    expect(await refused("unroll; ulises")).toBe(
      '--passes:9: there is no pass "ulises"\n  Did you mean "ulysses"?',
    );
  });
  test("an option that isn't there", async () => {
    expect(await refused("tile-loss tile=8")).toBe(
      '--passes:1: the pass "tile-loss" has no option "tile"\n  Did you mean "tiles"?',
    );
  });
  test("an option of the wrong kind", async () => {
    expect(await refused("tile-loss tiles=many")).toBe(
      '--passes:1: tile-loss: tiles is "many"; it must be a number\n  Its default is 0.',
    );
  });
  test("what is no option at all", async () => {
    expect(await refused("tile-loss 8")).toContain(
      'tile-loss: "8" is not option=value\n  Its options are tiles',
    );
    expect(await refused("unroll 8")).toContain("Its options are none.");
  });
  test("no pass at all", async () => {
    expect(await refused(" ; ")).toContain("--passes: no pass is named");
  });
  test("a pass whose requirements do not hold", async () => {
    expect(await refused("tile-loss", file("weight.ir", "graph g {\n  param %w : f32[2]\n}\n"))).toBe(
      '"tile-loss" needs a graph that is "differentiated": the gradient of every parameter is an output\n' +
        '  It is not: %w: there is no gradient. Put a pass that establishes "differentiated" before it.',
    );
  });
  test("a graph that does not verify", async () => {
    const text = "graph g {\n  input %x : f32[2]\n  %y = neg %x : f32[3] ; m.ts:4\n  return y = %y\n}\n";
    expect(await refused("simplify", file("wrong.ir", text))).toBe(
      `${join(scratch, "wrong.ir")}: m.ts:4: %y: is f32[3], but neg gives f32[2]\n  The graph reads but does not verify: it must be "typed".`,
    );
  });
  test("a file that isn't there", async () => {
    expect(await refused("simplify", "none.ir")).toContain("none.ir: there is no such file");
  });
});

describe("passes of one's own", () => {
  const own = (body: string) =>
    `import { definePass, keep, ops, rewrite } from "ithaca";
export const mine = definePass({
  name: "mine",
  summary: "does what its test wants",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: { by: 2, word: "x" },
  run(graph, { by }: { by: number }) {
    ${body}
  },
});
`;
  const run = (path: string, passes: string) =>
    runCommandLine(["opt", graph, "--load", path, "--passes", passes]);

  test("run with checked options", async () => {
    const path = file(
      "scale.ts",
      own(
        "return rewrite(graph, { all_gather: (node, { x }) => ops.scale(ops.all_gather(x, node.attrs), { by }) });",
      ),
    );
    expect(await run(path, "ulysses; mine by=3")).toBe(0);
    expect(said.stdout).toContain("%segments.1 = scale %segments.2 by=3");
    expect(await run(path, "mine bye=3")).toBe(1);
    expect(said.stderr).toContain('the pass "mine" has no option "bye"\n  Did you mean "by"?');
  });

  test("that throw are named with their line, and the graph before them is kept with the command that replays it", async () => {
    const path = file("throws.ts", own('if (by > 0) throw new Error("not today");\n    return graph;'));
    expect(await run(path, "ulysses; mine")).toBe(1);
    expect(said.stderr).toContain(`the pass "mine" failed: ${path}:10: not today`);
    const replay = /ithaca (opt \S+before-mine\.ir --load \S+ --passes mine)/.exec(
      said.stderr,
    )?.[1] as string;
    said.stderr = "";
    expect(await runCommandLine(replay.split(" "))).toBe(1);
    expect(said.stderr).toContain("not today");
    const before = readFileSync(replay.split(" ")[1], "utf8");
    expect(parse(before).nodes).toHaveLength(4);
  });

  test("that change the numbers are named by --check, with the first value that differs and its line", async () => {
    const right =
      "return rewrite(graph, { attention: (node, { q, k, v, segments }) => ops.attention(q, k, v, segments, node.attrs) });";
    const path = file("mask.ts", own(right.replace("node.attrs", "{ ...node.attrs, causal: false }")));
    const args = ["opt", graph, "--load", path, "--passes", "ulysses; mine", "--check"];
    expect(await runCommandLine(args)).toBe(1);
    expect(said.stderr).toMatch(/^ulysses: 1 results bit for bit, and rank by rank on 2 ranks\n/);
    expect(said.stderr).toContain('the pass "mine" changed the numbers: output out at [0, 0, 0, 0] is ');
    expect(said.stderr).toMatch(
      /The first value that differs is %out\.1: .*\n {2}model\.ts:7: %out\.1, %\S+ = attention/,
    );
    expect(said.stderr).toMatch(/before-mine\.ir --load \S+ --passes mine --check\n/);
    said.stderr = "";
    file("mask.ts", own(right));
    expect(await runCommandLine(args)).toBe(0);
    expect(said.stderr).toContain("mine: 1 results bit for bit, and rank by rank on 2 ranks");
  });

  test("that break a property are named, and replayed alone they break it again", async () => {
    const path = file("drops.ts", own("return rewrite(graph, { all_to_all: (node, { xs }) => xs });"));
    expect(await run(path, "ulysses; mine")).toBe(1);
    const complaint =
      'after the pass "mine" the graph does not verify:\n  model.ts:7: %out.1: attention: k needs dimension s whole, but it is split over sp (laid-out)';
    expect(said.stderr).toContain(complaint);
    const replay = /ithaca (opt .*)/.exec(said.stderr)?.[1] as string;
    said.stderr = "";
    expect(await runCommandLine(replay.split(" "))).toBe(1);
    expect(said.stderr).toContain(complaint);
  });

  test.each([
    ["nothing", "export const x = 1;", "exports no pass"],
    ["a syntax error", "export const x = ;", "bad.ts:1:18: Expression expected"],
    ["a throw", "const a = 1;\nthrow new Error('early');", "bad.ts:2: early"],
    ["an unknown import", 'import { x } from "ithaca";\nexport const y = x();', '"ithaca" has no "x"'],
    [
      "an unknown package",
      'import * as x from "no-such-package";\nexport const y = x;',
      '"no-such-package" can\'t be imported',
    ],
    ["a pass without a name", "export const p = { run: (g: unknown) => g };", "a pass has no name"],
    [
      "a property that isn't one",
      'export const p = { name: "p", summary: "s", numerics: "exact", requires: ["flatt"], establishes: [], options: {}, run: (g: unknown) => g };',
      'the pass "p" requires "flatt", which is no property\n  Did you mean "flat"?',
    ],
    [
      "the name of one of ours",
      own("return graph;").replace('"mine"', '"fuse"'),
      'there is a pass "fuse" already\n  It is one of Ithaca\'s; choose another name.',
    ],
    [
      "a pass that returns nothing",
      own("").replace("simplify", ""),
      'the pass "mine" returned nothing, not a graph',
    ],
  ])("files with %s are refused", async (_what, text, message) => {
    expect(await run(file("bad.ts", text), "mine")).toBe(1);
    expect(said.stderr).toContain(message);
  });
});
