/** @file The page of `ithaca view` in a browser: what a person sees, picks and types. Writes README's pictures when blessed. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { buildViewer } from "../../scripts/build-viewer.mjs";
import type { ViewData } from "../../src/viewer/view-data.ts";
import { quietly } from "../support/command-line.ts";

const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
if (!executablePath) console.log("skipped: the viewer in a browser needs Chromium, which was not found");

const scratch = mkdtempSync(join(tmpdir(), "ithaca-view-"));
const docs = fileURLToPath(new URL("../../docs/", import.meta.url));

/** A Llama of `layers` layers, without weights: what the page shows does not depend on them. */
function configOf(name: string, layers: number, settings: object = {}): string {
  const folder = join(scratch, name);
  mkdirSync(join(folder, "model"), { recursive: true });
  const model = {
    ...{ model_type: "llama", hidden_size: 64, intermediate_size: 128, num_hidden_layers: layers },
    ...{ num_attention_heads: 8, num_key_value_heads: 4, vocab_size: 512, rms_norm_eps: 1e-5 },
    ...{ max_position_embeddings: 4096, rope_theta: 10000, tie_word_embeddings: false },
  };
  writeFileSync(join(folder, "model/config.json"), JSON.stringify(model));
  writeFileSync(
    join(folder, "tokens.bin"),
    new Uint32Array(4096).map((_, i) => (i * 7) % 512),
  );
  const values = {
    ...{ model: join(folder, "model"), data: join(folder, "tokens.bin"), output_dir: join(folder, "out") },
    ...{ sequence_length: 1024, max_steps: 2, learning_rate: 1e-3, precision: "bf16", threads: 1 },
    ...settings,
  };
  const path = join(folder, "config.json");
  writeFileSync(path, JSON.stringify(values));
  return path;
}

async function viewOf(config: string, ...more: string[]): Promise<string> {
  const page = config.replace(/config\.json$/, "view.html");
  expect(await quietly("view", config, "--out", page, ...more)).toBe(0);
  return page;
}

function dataIn(page: string): ViewData {
  const text = /<script id="data" type="application\/json">(.*?)<\/script>/s.exec(readFileSync(page, "utf8"));
  return JSON.parse(text?.[1] ?? "null") as ViewData;
}

const shared = {
  parallel: { sequence: 2 },
  memory: { activation_checkpointing: "attention", activation_offload: "host" },
};
let small = "";

beforeAll(async () => {
  await buildViewer();
  const config = configOf("small", 3, shared);
  expect(await quietly("train", config, "--profile")).toBe(0);
  small = await viewOf(config, "--trace", join(scratch, "small/out/trace.json"));
}, 300_000);

afterAll(() => rmSync(scratch, { recursive: true, force: true }));

describe("the data of a page", () => {
  test("hold every stage, with collectives and copies where passes put them", () => {
    const { stages } = dataIn(small);
    const opsAfter = (pass: string) => {
      const stage = stages.find((own) => own.pass === pass);
      return new Set(stage?.blocks.flatMap(({ nodes }) => nodes.map(({ op }) => op)));
    };
    expect(opsAfter("shard")).not.toContain("all_to_all");
    expect(opsAfter("ulysses")).toContain("all_to_all");
    expect(opsAfter("offload")).toContain("reload");
    expect(
      stages.find(({ pass }) => pass === "ulysses")?.diff.some((line) => /^\+.*all_to_all/.test(line)),
    ).toBe(true);
  });

  test("hold the run's spans under the plan's names, for every lane and rank", () => {
    const { plan, trace } = dataIn(small);
    const names = new Set(plan.steps.map(({ op, name }) => `${op} %${name}`));
    for (const rank of [0, 1]) {
      const own = trace.filter((span) => span.rank === rank);
      expect(new Set(own.map(({ lane }) => lane))).toEqual(new Set(plan.steps.map(({ lane }) => lane)));
      // Every step once: there is no loop in this plan.
      expect(own.length).toBe(plan.steps.length);
    }
    for (const { name, begin, end } of trace) {
      expect(names).toContain(name);
      expect(end).toBeGreaterThanOrEqual(begin);
    }
  });

  test("fold layers that are alike: eighty of them are no more blocks than three", async () => {
    const many = dataIn(await viewOf(configOf("many", 80)));
    const few = dataIn(await viewOf(configOf("few", 4)));
    many.stages.forEach(({ pass, blocks }, i) => {
      expect(blocks.length, pass).toBeLessThanOrEqual(few.stages[i].blocks.length + 2);
    });
    const layers = many.stages.at(-1)?.blocks.filter(({ phase }) => phase === "forward") ?? [];
    expect(Math.max(...layers.map(({ times }) => times))).toBeGreaterThanOrEqual(78);
  }, 120_000);
});

describe.skipIf(!executablePath)("in a browser", () => {
  let browser: Browser;
  let page: Page;
  const errors: string[] = [];

  const opened = async (colorScheme: "light" | "dark") => {
    const own = await browser.newPage({ viewport: { width: 1440, height: 860 }, colorScheme });
    own.on("pageerror", ({ message }) => errors.push(message));
    await own.goto(pathToFileURL(small).href);
    return own;
  };

  beforeAll(async () => {
    browser = await chromium.launch({ ...(executablePath && { executablePath }), args: ["--no-sandbox"] });
    page = await opened("light");
  });
  afterAll(() => browser.close());

  test("a layer stands open, its collectives and copies in colors of their own", async () => {
    expect(await page.title()).toBe("llama - Ithaca");
    expect(await page.locator(".drawing .node.comm").count()).toBeGreaterThan(0);
    expect(await page.locator(".drawing .node.offload").count()).toBeGreaterThan(0);
    expect(await page.locator(".edge text").first().textContent()).toMatch(/^(bf16|f32)/);
  });

  test("a click on a node shows its line, its cost, its steps and its memory", async () => {
    await page.locator(".node.attention").first().click();
    const details = await page.locator(".details").textContent();
    expect(details).toMatch(/llama\.ts:\d+/);
    expect(details).toMatch(/FLOP/);
    expect(details).toMatch(/step \d+/);
    expect(details).toMatch(/activations|communication/);
  });

  test("keys: a search that finds, looks by number, passes by arrow", async () => {
    await page.keyboard.press("/");
    await page.keyboard.type("all_to_all");
    expect(await page.locator(".matches button").count()).toBeGreaterThan(0);
    await page.locator(".matches button").first().click();
    expect(await page.locator(".details").textContent()).toContain("all_to_all");
    await page.keyboard.press("Escape");
    expect(await page.locator(".matches").count()).toBe(0);
    await page.keyboard.press("2");
    const pass = () => page.locator(".passes .on b").textContent();
    const last = await pass();
    await page.keyboard.press("ArrowLeft");
    expect(await pass()).not.toBe(last);
    // Before the last one is a pass that changed nothing here.
    await page.keyboard.press("ArrowLeft");
    expect(await page.locator("pre .added").count()).toBeGreaterThan(0);
  });

  test("pointing into the arena names a buffer and its size", async () => {
    await page.keyboard.press("3");
    const canvas = page.locator(".memory canvas");
    const { width, height } = (await canvas.boundingBox()) ?? { width: 0, height: 0 };
    await canvas.hover({ position: { x: width / 2, y: height - 5 } });
    expect(await page.locator(".under").textContent()).toMatch(/^%.*(KiB|MiB)/);
  });

  test("lanes stand predicted and measured beside each other", async () => {
    await page.keyboard.press("4");
    const rows = await page.locator(".lanes li").allTextContents();
    expect(rows).toContain("compute, predicted");
    expect(rows).toContain("comm, rank 1 measured");
  });

  test("README's pictures", async () => {
    const dark = await opened("dark");
    if (process.env.BLESS) await dark.screenshot({ path: join(docs, "view-graph.png") });
    await dark.keyboard.press("3");
    if (process.env.BLESS) await dark.screenshot({ path: join(docs, "view-memory.png") });
    for (const name of ["graph", "memory"])
      expect(existsSync(join(docs, `view-${name}.png`)), name).toBe(true);
    expect(errors).toEqual([]);
  });
});
