/** @file What the compiler keeps, computes again and cuts where it may choose: prices, choices, and that numbers don't depend on them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { type Planned, planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { keepChoices } from "../../src/passes/keep.ts";
import { trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { decisionsOf } from "../../src/policies.ts";
import { arraysFor, onGraph, recipes, TRAINING } from "../support/decoders.ts";
import { expectClose } from "../support/expect.ts";
import { runs } from "../support/fuzz.ts";
import { writeLlama } from "./model.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-policies-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const LAYERS = 6;
writeLlama(join(scratch, "model"), {
  ...{ hidden_size: 256, num_hidden_layers: LAYERS, num_attention_heads: 8, num_key_value_heads: 4 },
  ...{ intermediate_size: 1024, vocab_size: 512 },
});
writeFileSync(join(scratch, "tokens.bin"), Buffer.alloc(4 * 100_000));

function planned(memory: object, more: object = {}): Promise<Planned> {
  const values = {
    ...{ model: join(scratch, "model"), data: join(scratch, "tokens.bin"), output_dir: join(scratch, "run") },
    ...{ sequence_length: 16384, max_steps: 1, learning_rate: 1e-3, threads: 1 },
    ...{ memory: { activation_offload: "off", ...memory }, ...more },
  };
  return planConfig(parseConfig(JSON.stringify(values), join(scratch, "config.yaml")), { effort: "place" });
}

const last = ({ trials }: Planned): Planned["trials"][number] => trials.at(-1) as Planned["trials"][number];

/** Nothing is computed in parts, so that what is left to decide is what to keep. */
const WHOLE = { tiled_loss: "off", tiled_mlp: "off", tiled_projections: "off", head_groups: "off" };

const RATES = {
  flops: { f32: 1e11, bf16: 2e11 },
  bandwidth: 1e10,
  hostLink: 1e10,
  fileLink: 1e9,
  rankLink: 1e10,
};

describe("what to keep", () => {
  test("goes from nothing to everything: each choice takes more memory and less time", async () => {
    const { stages } = await planned({}, {});
    const rolled = stages.find(({ pass }) => pass === "tile")?.graph;
    const choices = keepChoices(rolled as never, RATES);
    expect(choices.length).toBeGreaterThan(5);
    expect(choices[0]).toMatchObject({ kept: [], bytes: 0 });
    for (let i = 1; i < choices.length; i++) {
      expect(choices[i].bytes).toBeGreaterThan(choices[i - 1].bytes);
      expect(choices[i].seconds).toBeLessThan(choices[i - 1].seconds);
    }
    expect(choices.at(-1)?.seconds).toBeCloseTo(0);
    // Attention's work grows with the square of the sequence, its output does not.
    expect(choices[1].kept).toMatchObject([{ op: "attention", names: ["out", "out.lse"] }]);
    expect(choices[1].bytes).toBe(LAYERS * 16384 * (256 + 8) * 4);
  });

  test.each(["fp32", "bf16"])(
    "prices what is in tiles as it is outside of them, in %s",
    async (precision) => {
      const priceOf = async (memory: object) => {
        const { stages } = await planned({ ...WHOLE, ...memory }, { precision });
        const [least] = keepChoices(stages.find(({ pass }) => pass === "tile")?.graph as never, RATES);
        return least.seconds;
      };
      const whole = await priceOf({});
      for (const memory of [{ tiled_mlp: 4 }, { tiled_projections: 4 }, { head_groups: 4 }]) {
        const price = await priceOf(memory);
        // What is in tiles runs once more, and every tile casts and reads all of the weights.
        expect(price / whole, JSON.stringify(memory)).toBeGreaterThan(1);
        expect(price / whole, JSON.stringify(memory)).toBeLessThan(2.2);
      }
    },
  );

  test("does not change a number, whatever is chosen", () => {
    fc.assert(
      fc.property(recipes, fc.constantFrom(1, 2), (recipe, tiles) =>
        onGraph(recipe, (graph) => {
          const run = (changes: object, stopAfter?: string) => {
            const options = { ...TRAINING, mlpTiles: tiles, projectionTiles: tiles, ...changes };
            const stages = runPipeline(graph, trainingPipeline(options), stopAfter ? { stopAfter } : {});
            return stages[stages.length - 1].graph;
          };
          const whole = run({});
          const arrays = arraysFor(whole);
          const want = interpret(whole, arrays);
          for (const { kept } of keepChoices(run({}, "tile"), RATES)) {
            const keep = kept.flatMap(({ names }) => names).join(" ");
            const got = interpret(run({ checkpointing: "values", keep }), arrays);
            expectClose(got.outputs, want.outputs, 1e-9);
            expectClose(got.updates, want.updates, 1e-9);
          }
        }),
      ),
      runs(15),
    );
  });
});

describe("the compiler", () => {
  test("keeps everything and cuts nothing but the loss where there is no limit", async () => {
    expect((await planned({})).trials).toMatchObject([
      { checkpointing: "off", mlpTiles: 1, projectionTiles: 1, headGroups: 1, offloadLayers: 0 },
    ]);
  });

  test("takes a faster policy the more memory there is, and what it takes fits", async () => {
    const whole = last(await planned({})).deviceBytes;
    const chosen = [];
    for (const part of [1, 0.9, 0.75, 0.5, 0.35, 0.25, 0.2]) {
      const limit = Math.floor(whole * part);
      const trial = last(await planned({ device_limit: limit }));
      expect(trial.excess, `${part} of ${whole}`).toBeNull();
      expect(trial.deviceBytes).toBeLessThanOrEqual(limit);
      chosen.push(trial);
    }
    for (let i = 1; i < chosen.length; i++)
      expect(chosen[i].seconds).toBeGreaterThanOrEqual(chosen[i - 1].seconds);
    expect(new Set(chosen.map(({ seconds }) => seconds)).size).toBeGreaterThan(4);
    const tight = chosen[chosen.length - 1];
    expect([tight.mlpTiles, tight.projectionTiles]).toEqual([0, 0]);
  });

  test("says of every value that backward reads what becomes of it, its bytes and what keeping it saves", async () => {
    const whole = last(await planned({})).deviceBytes;
    const trial = last(await planned({ device_limit: Math.floor(whole * 0.75), ...WHOLE }));
    const decisions = decisionsOf(trial);
    expect(decisions.map(({ names }) => names)).toContainEqual(["out", "out.lse"]);
    expect(new Set(decisions.map(({ where }) => where))).toEqual(new Set(["device", "again"]));
    for (const { saves, bytes, loc } of decisions) {
      expect(saves).toBeGreaterThan(0);
      expect(bytes).toBeGreaterThan(0);
      expect(loc).toMatch(/^\S+\.ts:\d+$/);
    }
    // What is computed again costs what the policy says.
    const again = decisions.filter(({ where }) => where === "again");
    expect(again.reduce((total, { saves }) => total + saves, 0)).toBeCloseTo(trial.seconds);
    const all = decisionsOf(last(await planned(WHOLE)));
    expect(all.every(({ where }) => where === "device")).toBe(true);
  });

  test("leaves alone what the configuration says", async () => {
    const fixed = {
      tiled_mlp: 3,
      tiled_projections: "off",
      head_groups: 2,
      activation_checkpointing: "layer",
    };
    const { policies } = await planned({ ...fixed, device_limit: "1MiB" });
    for (const policy of policies)
      expect(policy).toMatchObject({
        mlpTiles: 3,
        projectionTiles: 1,
        headGroups: 2,
        checkpointing: "layer",
      });
  });

  test("finds a plan down to the last byte of what the leanest policy needs", async () => {
    const values = { checkpoint_every: 1 };
    const limit = last(await planned({ ...values, device_limit: "1MiB" })).deviceBytes;
    expect(last(await planned({ ...values, device_limit: limit })).excess).toBeNull();
    expect(last(await planned({ ...values, device_limit: limit - 1 })).excess).not.toBeNull();
  });

  test("refuses to keep attention's output and to compute it anew", async () => {
    await expect(planned({ activation_checkpointing: "attention", head_groups: 2 })).rejects.toThrow(
      "memory.activation_checkpointing: attention keeps what all heads give, memory.head_groups: 2 computes it anew",
    );
  });
});
