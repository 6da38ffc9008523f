/**
 * @file More ranks than heads: how the mesh is parted for which model, and compiled runs that give one rank's loss and
 * gradients. The table beside this file has many more combinations in float64.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { findMpi } from "../../src/codegen/toolchain.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { parse } from "../../src/ir/parse.ts";
import { factorMesh } from "../../src/passes/factor-mesh.ts";
import { distance, oneStep, smallModel, writeTokens } from "../support/one-step.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-ring-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const mpi = await findMpi();

/** A graph of one attention over 1024 tokens. */
function attention(heads: number, keyHeads: number, ranks: number, attrs = ""): Graph {
  return parse(`graph g mesh(dp=2, sp=${ranks}) {
    input %q : f32[2, 1024, ${heads}, 8]
    input %k : f32[2, 1024, ${keyHeads}, 8]
    input %segments : i32[2, 1024]
    %o, %lse = attention %q, %k, %k, %segments${attrs} : f32[2, 1024, ${heads}, 8], f32[2, 1024, ${heads}]
    return o = %o
  }`);
}

describe("the mesh of a sequence", () => {
  test.each([
    // Ranks among whom heads can be shared stay one axis, even where zeros must fill up.
    [32, 8, 32, "", { dp: 2, sp: 32 }],
    [28, 4, 8, "", { dp: 2, sp: 8 }],
    [6, 3, 4, "", { dp: 2, sp: 4 }],
    [5, 1, 4, "", { dp: 2, sp: 4 }],
    // More ranks than heads: as many groups as it takes.
    [4, 4, 8, "", { dp: 2, ring: 2, sp: 4 }],
    [4, 2, 16, "", { dp: 2, ring: 4, sp: 4 }],
    [2, 1, 3, "", { dp: 2, ring: 3 }],
    [1, 1, 8, "", { dp: 2, ring: 8 }],
    // 6 heads on 4 ranks would leave two of eight empty: 8/6 of the work, twice for a ring of 2. On 2 ranks none.
    [6, 3, 8, "", { dp: 2, ring: 4, sp: 2 }],
    // A short window gives all parts of a ring about the same, so that zeros cost more than a ring.
    [6, 3, 4, " window=16", { dp: 2, ring: 2, sp: 2 }],
    [6, 3, 4, " causal=false", { dp: 2, ring: 2, sp: 2 }],
  ])("%i query heads, %i key heads, %i ranks%s", (heads, keyHeads, ranks, attrs, mesh) => {
    const graph = factorMesh.run(attention(heads, keyHeads, ranks, attrs), factorMesh.options);
    expect(Object.fromEntries(graph.mesh)).toEqual(mesh);
  });

  test("is what it was where nothing attends, or a layout names it already", () => {
    const none = parse(
      "graph g mesh(sp=8) {\n  input %x : f32[8]\n  %y = silu %x : f32[8]\n  return y = %y\n}",
    );
    expect(factorMesh.run(none, factorMesh.options)).toBe(none);
    const laidOut = parse(`graph g mesh(sp=2) {
      input %q : f32[1, 4@sp, 1, 2]
      input %s : i32[1, 4@sp]
      %o, %lse = attention %q, %q, %q, %s : f32[1, 4@sp, 1, 2], f32[1, 4@sp, 1]
      return o = %o
    }`);
    expect(factorMesh.run(laidOut, factorMesh.options)).toBe(laidOut);
  });
});

/** Relative: a few units in the last place, which wide weights and two layers make larger in some gradients. */
const most = { loss: 1e-6, gradNorm: 1e-6, gradient: 1e-5 };

describe("a compiled step on more ranks than heads gives one rank's loss and gradients", () => {
  const tokens = Array.from({ length: 400 }, (_, i) => (i * i * 7 + 3 * i) % 61);
  const documents = [0, 13, 14, 55, 90, 140, 171, 260, 301];
  test.each([
    ["2 heads on 8", { num_attention_heads: 2, num_key_value_heads: 2, head_dim: 12 }, 8, 1, 1, false],
    ["GQA 4/2 on 8, documents", { num_attention_heads: 4, num_key_value_heads: 2 }, 8, 1, 2, true],
    [
      "MQA 2/1 on 3 by 2, window",
      { num_attention_heads: 2, num_key_value_heads: 1, sliding_window: 9 },
      3,
      2,
      1,
      true,
    ],
  ])("%s", { timeout: 240_000 }, async (_, changes, sequence, data, accumulation, packed) => {
    const run = (parallel: object, micro: number, steps: number) =>
      oneStep({
        model: smallModel(changes),
        data: writeTokens(scratch, tokens, packed ? documents : undefined),
        sequence_length: 45,
        micro_batch_size: micro,
        gradient_accumulation_steps: steps,
        parallel,
      });
    const alone = await run({ sequence: 1 }, 4, 1);
    const own = await run({ sequence, data }, 4 / data / accumulation, accumulation);
    expect(own.tokens).toBe(alone.tokens);
    const apart = distance(own, alone);
    expect(apart.loss).toBeLessThan(most.loss);
    expect(apart.gradNorm).toBeLessThan(most.gradNorm);
    expect(apart.gradient, apart.worst).toBeLessThan(most.gradient);
  });

  const variants: readonly [string, Readonly<Record<string, unknown>>, string?][] = [
    ["layers computed again", { memory: { activation_checkpointing: "layer" } }],
    ["all but attention computed again", { memory: { activation_checkpointing: "attention", tiled_mlp: 3 } }],
    ...(mpi ? [["processes", {}, "mpi"] as [string, Record<string, unknown>, string]] : []),
  ];
  test.each(variants)("2 heads on 4 by 2: %s", { timeout: 240_000 }, async (_, changes, comm = "local") => {
    const run = (parallel: object, micro: number, more: object) =>
      oneStep({
        model: smallModel({ num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8 }),
        data: writeTokens(scratch, tokens, documents),
        sequence_length: 50,
        micro_batch_size: micro,
        parallel,
        ...more,
      });
    const alone = await run({ sequence: 1 }, 2, {});
    const own = await run({ sequence: 4, data: 2, comm }, 1, changes);
    const apart = distance(own, alone);
    expect(apart.loss).toBeLessThan(most.loss);
    expect(apart.gradNorm).toBeLessThan(most.gradNorm);
    expect(apart.gradient, apart.worst).toBeLessThan(most.gradient);
  });

  test("in bf16 within its rounding", { timeout: 240_000 }, async () => {
    const run = (sequence: number) =>
      oneStep({
        model: smallModel({
          num_attention_heads: 2,
          num_key_value_heads: 1,
          head_dim: 8,
          initializer_range: 0.1,
        }),
        data: writeTokens(scratch, tokens, documents),
        sequence_length: 50,
        precision: "bf16",
        parallel: { sequence },
      });
    const apart = distance(await run(4), await run(1));
    expect(apart.loss).toBeLessThan(2 ** -9);
    expect(apart.gradNorm).toBeLessThan(2 ** -7);
    expect(apart.gradient, apart.worst).toBeLessThan(2 ** -5);
  });
});
