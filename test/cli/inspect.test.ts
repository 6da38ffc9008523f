/** @file --dump, --stats and --check on every command that compiles, and what is left behind when a pass fails there. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";
import { parse } from "../../src/ir/parse.ts";
import { captured, writeConfig } from "../support/command-line.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-inspect-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const changes = { parallel: { sequence: 2 }, sequence_length: 64, max_steps: 1 };
const { file: config } = writeConfig(scratch, "two", changes);
const said = captured();

const own = (name: string, body: string): string => {
  const path = join(scratch, `${name}.ts`);
  writeFileSync(
    path,
    `import { allNodes, definePass, ops, rewrite } from "ithaca";
export const own = definePass({
  name: "${name}",
  summary: "does what its test wants",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: {},
  run(graph) {
    ${body}
  },
});
`,
  );
  return path;
};
const withPass = (file: string, after: string): string => `passes=${JSON.stringify([{ file, after }])}`;

describe.each(["ir", "plan", "compile", "train"])("%s", (command) => {
  test("writes each graph, the table, and that numbers were kept", { timeout: 120_000 }, async () => {
    const dump = join(scratch, `dump-${command}`);
    const whole = command === "ir" ? ["--after", "plan"] : [];
    const args = [command, config, ...whole, "--dump", dump, "--stats", "--check"];
    expect(await runCommandLine(args)).toBe(0);
    const files = readdirSync(dump);
    expect(files.slice(0, 3)).toEqual(["00-input.ir", "01-one-document.ir", "02-precision.ir"]);
    expect(files.at(-1)).toBe("plan.txt");
    for (const file of files.slice(0, -1)) parse(readFileSync(join(dump, file), "utf8"), file);
    expect(said.stderr).toMatch(/^pass +ms +ops +bytes +FLOPs\ninput /m);
    expect(said.stderr).toMatch(/^ulysses: 2 results bit for bit, and rank by rank on 2 ranks$/m);
    expect(said.stderr).toMatch(/^optimizer: \d+ results/m);
    expect(said.stderr).not.toContain("not compared");
  });

  test("names the pass that changed the numbers, and how to see it alone", async () => {
    const file = own(
      "half",
      "return rewrite(graph, { rms_norm: (node, { x, weight }) => ops.scale(ops.rms_norm(x, weight, node.attrs), { by: 0.5 }) });",
    );
    expect(
      await runCommandLine([
        command,
        config,
        "--set",
        withPass(file, "unroll"),
        "--check",
        ...(command === "ir" ? ["--after", "fuse"] : []),
      ]),
    ).toBe(1);
    expect(said.stderr).toContain('the pass "half" changed the numbers: output loss_sum');
    expect(said.stderr).toMatch(/ithaca opt \S+before-half\.ir --load \S+half\.ts --passes half --check\n$/);
    expect(said.stdout).toBe("");
  });
});

test("--json has what --stats would print", async () => {
  expect(await runCommandLine(["plan", config, "--json", "--stats"])).toBe(0);
  const { passes, fits } = JSON.parse(said.stdout);
  expect(fits).toBe(true);
  expect(passes[0]).toMatchObject({ pass: "input", changed: false });
  expect(passes.length).toBeGreaterThan(10);
  expect(said.stderr).toBe("");
});

describe("a pass that fails", () => {
  /** The command that is printed, run as it is. */
  const replay = async (): Promise<string> => {
    const [, words] = /^ {2}ithaca (opt .*)$/m.exec(said.stderr) ?? [];
    expect(words).toBeDefined();
    said.stderr = "";
    expect(await runCommandLine(words.split(" ").map((word) => word.replace(/^'(.*)'$/, "$1")))).toBe(1);
    return said.stderr;
  };

  test.each(["ir", "plan", "compile", "train", "view"])(
    "in %s leaves the graph before it",
    async (command) => {
      const file = own("breaks", 'throw new Error("not today");');
      const args = [
        command,
        config,
        "--set",
        withPass(file, "ulysses"),
        ...(command === "ir" ? ["--after", "plan"] : []),
      ];
      expect(await runCommandLine(args)).toBe(1);
      expect(said.stderr).toContain(`the pass "breaks" failed: ${file}:10: not today`);
      const before = /\S+before-breaks\.ir/.exec(said.stderr)?.[0] as string;
      expect(existsSync(before)).toBe(true);
      expect(readFileSync(before, "utf8")).toContain("all_to_all");
      expect(await replay()).toContain("not today");
    },
  );

  test("under a policy that is only tried leaves the graph of that policy", async () => {
    const file = own(
      "no-checkpoints",
      'if (allNodes(graph.nodes).some(({ op }) => op === "checkpoint")) throw new Error("a checkpoint"); return graph;',
    );
    const args = ["plan", config, "--set", withPass(file, "unroll")];
    expect(await runCommandLine(args)).toBe(0);
    expect(await runCommandLine([...args, "--device-memory", "1MiB"])).toBe(1);
    expect(said.stderr).toContain('the pass "no-checkpoints" failed: ');
    const before = /\S+before-no-checkpoints\.ir/.exec(said.stderr)?.[0] as string;
    expect(readFileSync(before, "utf8")).toContain("= checkpoint ");
    expect(await replay()).toContain("a checkpoint");
  });
});
