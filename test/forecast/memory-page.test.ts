/** @file docs/memory.md says what was found, and what was found is what the compiler plans now. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { configOf, page, type Result, rows, stored } from "../../bench/max-sequence.ts";
import { limitsOf, probe } from "../../src/forecast.ts";
import { machineOf } from "../../src/plan/machines.ts";

const results = stored();
const found = (name: string): Result => {
  const result = results.find((own) => own.name === name);
  if (!result) throw new Error(`there is no row ${name}`);
  return result;
};

test("the page is made of the stored results, and those are of all rows", () => {
  const path = fileURLToPath(new URL("../../docs/memory.md", import.meta.url));
  expect(readFileSync(path, "utf8")).toBe(page(results));
  expect(results.map(({ name, settings }) => [name, settings])).toEqual(
    rows.map(({ name, settings }) => [name, settings]),
  );
});

test.each(["+ tiled loss", "+ tiled projections, head groups", "llama-3.1-8b on 1 x h100-80gb"])(
  "%s: the stored length still fits",
  async (name) => {
    const result = found(name);
    const config = configOf(result);
    const machine = machineOf(result.machine);
    if (!machine) throw new Error(`there is no machine ${result.machine}`);
    const limits = limitsOf(config, machine);
    const need = await probe(config, machine, result.tokens);
    expect(need.device).toBeLessThanOrEqual(limits.device ?? 0);
    expect(need.host).toBeLessThanOrEqual(limits.host ?? 0);
  },
);

test.each(["+ tiled projections, head groups", "llama-3.1-8b on 1 x h100-80gb"])(
  "%s: the stored length fits where the compiler decides about tiles and groups, too",
  async (name) => {
    const result = found(name);
    const asked = configOf(result);
    const auto = { tiled_mlp: "auto", tiled_projections: "auto", head_groups: "auto" } as const;
    const machine = machineOf(result.machine);
    if (!machine) throw new Error(`there is no machine ${result.machine}`);
    const limits = limitsOf(asked, machine);
    const config = { ...asked, memory: { ...asked.memory, ...auto } };
    const need = await probe(config, machine, result.tokens);
    expect(need.device).toBeLessThanOrEqual(limits.device ?? 0);
    expect(need.host).toBeLessThanOrEqual(limits.host ?? 0);
  },
);

test("the goals: a million tokens on one H100, six on eight, 1.2 million on one H200", () => {
  expect(found("llama-3.1-8b on 1 x h100-80gb").tokens).toBeGreaterThanOrEqual(1e6);
  expect(found("llama-3.1-8b on 8 x h100-80gb").tokens).toBeGreaterThanOrEqual(6e6);
  expect(found("llama-3.1-8b on 1 x h200").tokens).toBeGreaterThanOrEqual(1.2e6);
});

test("every row is at least what ALST has published", () => {
  for (const { name, tokens, published } of results)
    expect(tokens, name).toBeGreaterThanOrEqual(published ?? 0);
});
