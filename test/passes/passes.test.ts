/**
 * @file Pass tests as text. CASE.ir says in its comments what it shows and what to run; CASE.diff, blessed by a person, is
 * the change that the one pass makes. BLESS=1 writes the diffs anew. A case with `# error: ...` is refused with that.
 *
 * With each case comes for free: the graph verifies before and after, as far as properties are claimed; its text reads
 * back; the numbers are kept as the pass promises; and a second run of the pass has nothing to do.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { lineDiff } from "../../src/cli/diff.ts";
import { formatError, UserError } from "../../src/ir/error.ts";
import type { AttrValue } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";
import type { Pass } from "../../src/passes/pass.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { TRAINING } from "../support/decoders.ts";
import { blessing, expectGolden } from "../support/golden.ts";
import { numbersOf } from "./numbers.ts";

const passes = new Map(trainingPipeline(TRAINING).map(({ pass }) => [pass.name, pass]));
/** Passes that add something each time they run. */
const ONCE = new Set(["differentiate", "accumulate", "optimizer"]);

const folder = fileURLToPath(new URL("./", import.meta.url));
const folders = readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory());

function optionsOf(words: readonly string[], pass: Pass): Record<string, AttrValue> {
  const given = words.map((word) => {
    const [name, value] = word.split("=");
    if (!(name in pass.options)) throw new Error(`${pass.name} has no option ${name}`);
    return [name, typeof pass.options[name] === "number" ? Number(value) : value.replaceAll('"', "")];
  });
  return { ...pass.options, ...Object.fromEntries(given) };
}

function caseOf(path: string) {
  const text = readFileSync(path, "utf8");
  const comments = text.split("\n").filter((line) => line.startsWith("#"));
  const run = comments.find((line) => line.startsWith("# run: "));
  if (!run) throw new Error(`${path} does not say what to run`);
  const [name, ...words] = [...run.slice("# run: ".length).matchAll(/[^\s"]+(?:"[^"]*")?/g)].map(
    ([word]) => word,
  );
  const pass = passes.get(name);
  if (!pass) throw new Error(`${path}: there is no pass ${name}`);
  const graph = parse(text, basename(path));
  // A case stands in the printer's columns, below its comments.
  if (blessing) writeFileSync(path, `${comments.join("\n")}\n${print(graph)}`);
  return { comments, graph, pass, options: optionsOf(words, pass) };
}

/** The error a user sees, on one line: place, what is wrong, what to do. */
function messageOf(run: () => void): string {
  try {
    run();
  } catch (error) {
    if (error instanceof UserError) return formatError(error).replace(/\n */g, " | ");
    throw error;
  }
  return "nothing was wrong";
}

describe.each(folders.map(({ name }) => name))("%s", (name) => {
  const cases = readdirSync(join(folder, name)).filter((file) => file.endsWith(".ir"));
  test.each(cases.map((file) => basename(file, ".ir")))("%s", (title) => {
    const { comments, graph, pass, options } = caseOf(join(folder, name, `${title}.ir`));
    expect(pass.name).toBe(name);
    expect(`${comments.join("\n")}\n${print(graph)}`).toBe(
      readFileSync(join(folder, name, `${title}.ir`), "utf8"),
    );
    expect(verify(graph, ["typed", ...pass.requires]).map(printComplaint)).toEqual([]);

    const refusal = comments.find((line) => line.startsWith("# error: "))?.slice("# error: ".length);
    if (refusal !== undefined) {
      expect(messageOf(() => pass.run(graph, options as never))).toBe(refusal);
      return;
    }
    const after = pass.run(graph, options as never);
    const complaints = verify(after, ["typed", ...pass.requires, ...pass.establishes]);
    expect(complaints.map(printComplaint)).toEqual([]);
    expect(parse(print(after))).toEqual(after);
    if (print(after) === print(graph))
      expect(after, "a pass with nothing to do returns its graph").toBe(graph);
    if (!ONCE.has(name)) expect(pass.run(after, options as never)).toBe(after);
    numbersOf(name)(graph, after, options);
    expectGolden(join(folder, name, `${title}.diff`), lineDiff(print(graph), print(after), "before", name));
  });
});

test("every pass of the pipeline has cases", () => {
  expect(new Set(folders.map(({ name }) => name))).toEqual(new Set(passes.keys()));
});
