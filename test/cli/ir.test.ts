/** @file `ithaca ir`: parts, JSON as the schema says, and the page; of a model on two ranks. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { runCommandLine } from "../../src/cli/run.ts";
import { fromJson } from "../../src/ir/json.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { captured, writeConfig } from "../support/command-line.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-ir-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const { file: config } = writeConfig(scratch, "two", { parallel: { sequence: 2 } });
const said = captured();
const ir = (...args: string[]): Promise<number> => runCommandLine(["ir", config, ...args]);

const published = z.fromJSONSchema(
  JSON.parse(readFileSync(fileURLToPath(new URL("../../docs/ir.schema.json", import.meta.url)), "utf8")),
);

describe("a part", () => {
  test("is a layer after a pass, which opt takes as it is", async () => {
    const part = join(scratch, "layer.ir");
    expect(await ir("--after", "unroll", "--layer", "1", "--out", part)).toBe(0);
    expect(said.stderr).toBe(`${part} is written\n`);
    const graph = parse(readFileSync(part, "utf8"));
    expect(graph.nodes.map(({ op }) => op)).toContain("all_to_all");
    expect(
      graph.params
        .filter(({ role }) => role === "param")
        .every(({ value }) => value.name.startsWith("model.layers.1.")),
    ).toBe(true);
    expect(await runCommandLine(["opt", part, "--passes", "simplify; fuse", "--check"])).toBe(0);
    expect(parse(said.stdout).name).toBe("llama");
  });
  test("is a module, and what a pass did to it", async () => {
    expect(await ir("--module", "model.layers.2.mlp")).toBe(0);
    expect(parse(said.stdout).nodes.map(({ op }) => op)).toEqual(["matmul", "matmul", "swiglu", "matmul"]);
    said.stdout = "";
    expect(await ir("--module", "self_attn", "--after", "ulysses", "--diff")).toBe(0);
    expect(said.stdout).toMatch(/^\+ +%out = all_to_all %out\.1/m);
    expect(said.stdout).not.toContain("swiglu");
  });
  test("that is not there is refused", async () => {
    expect(await ir("--layer", "7")).toBe(1);
    expect(said.stderr).toBe("--layer: there is no layer 7 in llama\n  Its layers are 0 to 2.\n");
    said.stderr = "";
    expect(await ir("--layer", "first")).toBe(1);
    expect(said.stderr).toBe("--layer: --layer is first; it must be a number\n");
    said.stderr = "";
    expect(await ir("--layer", "1", "--after", "plan")).toBe(1);
    expect(said.stderr).toContain("--layer: the plan is shown as a whole");
  });
});

describe("--json", () => {
  test.each([
    ["the input", []],
    ["a part", ["--after", "fuse", "--layer", "0"]],
    ["a difference", ["--after", "ulysses", "--diff"]],
    ["every difference and the table", ["--diff", "--stats"]],
    ["the plan", ["--after", "plan"]],
  ])("of %s is as docs/ir.schema.json says", async (_what, args) => {
    expect(await ir("--json", ...args)).toBe(0);
    const answer = JSON.parse(said.stdout);
    published.parse(answer);
    expect(said.stderr).toBe("");
    for (const { graph, text } of answer.stages) if (graph) expect(print(fromJson(graph))).toBe(text);
    expect(answer.stages.some(({ graph }: { graph?: object }) => graph !== undefined)).toBe(
      !args.includes("--diff") && !args.includes("plan"),
    );
    expect("passes" in answer).toBe(args.includes("--stats"));
  });

  test("is what opt reads and writes", async () => {
    const whole = join(scratch, "graph.json");
    expect(await ir("--json")).toBe(0);
    const { graph, text } = JSON.parse(said.stdout).stages[0];
    const { writeFileSync } = await import("node:fs");
    writeFileSync(whole, JSON.stringify(graph));
    said.stdout = "";
    expect(await runCommandLine(["opt", whole, "--passes", "unroll", "--json"])).toBe(0);
    const answer = JSON.parse(said.stdout);
    expect(print(fromJson(answer.graph))).toBe(answer.text);
    expect(answer.text).not.toBe(text);
    writeFileSync(whole, '{"name": "g"');
    expect(await runCommandLine(["opt", whole, "--passes", "unroll"])).toBe(1);
    expect(said.stderr).toContain("graph.json: it is no JSON");
  });
});

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);

describe("--html", () => {
  test("is one page without scripts, with the text in it, values linked, ops in their colors", async () => {
    expect(await ir("--after", "ulysses", "--html")).toBe(0);
    const page = said.stdout;
    expect(page).toMatch(/^<!doctype html>/);
    expect(page).not.toMatch(/<script|<link|https?:/);
    expect(page).toContain('<b class="comm">all_to_all</b>');
    expect(page).toContain('<b class="attention">attention</b>');
    said.stdout = "";
    await ir("--after", "ulysses");
    const words: Readonly<Record<string, string>> = { lt: "<", gt: ">", amp: "&", quot: '"', "#39": "'" };
    const shown = (/<pre>\n(.*)\n<\/pre>/s.exec(page)?.[1] ?? "")
      .replace(/<[^>]*>/g, "")
      .replace(/&(\w+|#39);/g, (_, word: string) => words[word]);
    expect(`${shown}\n`).toBe(said.stdout);
    const places = new Set([...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id));
    const links = [...page.matchAll(/ href="#([^"]*)"/g)].map(([, id]) => id);
    expect(links.length).toBeGreaterThan(50);
    expect(links.filter((id) => !places.has(id))).toEqual([]);
    expect(places.size).toBe([...page.matchAll(/ id="/g)].length);
    // Every value that is used has its place: none is left as plain text.
    expect(page.replace(/<a [^>]*>.*?<\/a>/g, "")).not.toMatch(/%[a-z]/);
  });

  test("of the plan links steps to the steps that made what they read", async () => {
    expect(await ir("--after", "plan", "--html")).toBe(0);
    expect(said.stdout).toMatch(
      /<b class="attention">attention<\/b> <a href="#s0-L0\.q\.1">%L0\.q\.1<\/a>@\d+/,
    );
    expect(said.stdout).toMatch(/<a id="s0-L0\.q\.1">/);
  });

  test("of a difference has what came and what went", async () => {
    expect(await ir("--after", "ulysses", "--diff", "--html")).toBe(0);
    expect(said.stdout).toMatch(/<span class="added">\+.*all_to_all/);
    expect(said.stdout).toMatch(/<span class="removed">-.*attention/);
  });

  test.skipIf(!executablePath)("works from file://", async () => {
    const path = join(scratch, "ir.html");
    expect(await ir("--after", "ulysses", "--html", "--out", path)).toBe(0);
    const browser = await chromium.launch({
      ...(executablePath && { executablePath }),
      args: ["--no-sandbox"],
    });
    const page = await browser.newPage();
    await page.goto(pathToFileURL(path).href);
    expect(await page.title()).toBe("llama - Ithaca");
    await page.locator("a[href]", { hasText: "%q.1" }).first().click();
    expect(await page.locator(":target").textContent()).toBe("%q.1");
    await browser.close();
  });
});
