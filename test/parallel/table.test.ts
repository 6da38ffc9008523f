/**
 * @file Sequence and data parallelism give the numbers of one rank: every combination of degrees, accumulation, heads,
 * masks and lengths, through the passes of a training run and rank by rank in float64.
 */
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { lowerDefinition } from "../../src/frontend/index.ts";
import { array, type NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { sizesOf } from "../../src/ir/type.ts";
import { printComplaint, verify } from "../../src/ir/verify.ts";
import { type TrainingOptions, trainingPipeline } from "../../src/passes/pipeline.ts";
import { runPipeline } from "../../src/passes/run.ts";

/** Samples of the global batch, shared out between ranks, accumulation and the micro batch. */
const SAMPLES = 8;
const VOCABULARY = 7;

const heads = { MHA: [4, 4], "GQA 6/3": [6, 3], "GQA 8/2": [8, 2], MQA: [5, 1], "28/4": [28, 4] } as const;
const masks = {
  "one document": { window: null, document: 99 },
  "packed documents": { window: null, document: 5 },
  "sliding window": { window: 3, document: 99 },
} as const;
const lengths = { even: 8, odd: 9 } as const;

type Heads = keyof typeof heads;
type Mask = keyof typeof masks;

/** The gradients of a run laid out over sp x dp ranks, up to the optimizer. */
async function graphOf(
  kind: Heads,
  mask: Mask,
  length: number,
  sp: number,
  dp: number,
  accumulation: number,
): Promise<Graph> {
  const mesh = new Map([["dp", dp] as const, ["sp", sp] as const].filter(([, degree]) => degree > 1));
  const [query, key] = heads[kind];
  const graph = await lowerDefinition({
    file: fileURLToPath(new URL("../../src/models/mistral.ts", import.meta.url)),
    name: "table",
    batch: SAMPLES / accumulation,
    sequence: Math.ceil(length / sp) * sp,
    mesh,
    config: {
      ...{
        vocab_size: VOCABULARY,
        hidden_size: 4,
        intermediate_size: 6,
        num_hidden_layers: 1,
        hidden_act: "silu",
      },
      ...{ num_attention_heads: query, num_key_value_heads: key, head_dim: 2, rms_norm_eps: 1e-5 },
      ...{ rope_parameters: { rope_type: "default", rope_theta: 100 }, sliding_window: masks[mask].window },
    },
  });
  const options: TrainingOptions = {
    precision: "fp32",
    checkpointing: "off",
    keep: "",
    checkpointEvery: 1,
    tileBytes: 2 ** 26,
    gradientAccumulationSteps: accumulation,
    offloadLayers: 0,
    spillLayers: 0,
    lossTiles: 1,
    mlpTiles: 1,
    projectionTiles: 1,
    headGroups: 1,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weightDecay: 0,
    optimizerStates: "device",
    maxGradNorm: 0,
  };
  const stages = runPipeline(graph, trainingPipeline(options), { stopAfter: "reduce" });
  const result = stages[stages.length - 1].graph;
  expect(verify(result, ["typed", "laid-out"]).map(printComplaint)).toEqual([]);
  return result;
}

/** A number between -0.5 and 0.5 that depends on nothing but its arguments. */
function noise(...seeds: readonly number[]): number {
  const x =
    Math.sin(seeds.reduce((sum, seed, i) => sum + (seed + 1) * (12.9898 + 65.233 * i), 0)) * 43758.5453;
  return x - Math.floor(x) - 0.5;
}

/** What the data reader gives each input at token `at` of sample `sample`; behind `length` there is padding. */
function token(input: string, sample: number, at: number, length: number, document: number): number {
  const isPadding = at >= length;
  switch (input) {
    case "input_ids":
      return isPadding ? 0 : Math.floor((noise(sample, at) + 0.5) * VOCABULARY);
    case "labels":
      // Every third sample has labels at its end only: most shards of it have none.
      return isPadding || (sample % 3 === 0 && at < length - 2)
        ? -100
        : Math.floor((noise(sample, at, 1) + 0.5) * VOCABULARY);
    case "position_ids":
      return isPadding ? at - length : at % document;
    default:
      return isPadding ? 99 : Math.floor(at / document);
  }
}

function inputsFor(graph: Graph, length: number, document: number): Map<string, NDArray> {
  return new Map(
    graph.params.map(({ role, value }, index) => {
      const sizes = [...(value.type.times === null ? [] : [value.type.times]), ...sizesOf(value.type)];
      const count = sizes.reduce((a, b) => a * b, 1);
      const sequence = sizes[sizes.length - 1];
      const element = (i: number) =>
        role === "input"
          ? token(value.name, Math.floor(i / sequence), i % sequence, length, document)
          : noise(i, index);
      return [
        value.name,
        array(
          sizes,
          Array.from({ length: count }, (_, i) => element(i)),
        ),
      ];
    }),
  );
}

function largestRelative(expected: NDArray, own: NDArray): number {
  const scale = expected.data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return (
    expected.data.reduce((worst, value, i) => Math.max(worst, Math.abs(value - own.data[i])), 0) /
    (scale || 1)
  );
}

const rows = Object.keys(heads).flatMap((kind) =>
  Object.keys(masks).flatMap((mask) => Object.keys(lengths).map((length) => ({ kind, mask, length }))),
) as { kind: Heads; mask: Mask; length: keyof typeof lengths }[];

describe.each(rows)("$kind, $mask, $length length", ({ kind, mask, length: parity }) => {
  test("sp 1, 2, 3, 4, 8 by dp 1, 2 by accumulation 1, 2, 4 are one rank's", async () => {
    const length = lengths[parity];
    const { document } = masks[mask];
    const alone = await graphOf(kind, mask, length, 1, 1, 1);
    const expected = interpret(alone, inputsFor(alone, length, document)).outputs;
    expect(expected.get("loss_count")?.data[0]).toBeGreaterThan(20);
    for (const sp of [1, 2, 3, 4, 8]) {
      for (const dp of [1, 2]) {
        for (const accumulation of [1, 2, 4]) {
          const graph = await graphOf(kind, mask, length, sp, dp, accumulation);
          const outputs = interpret(graph, inputsFor(graph, length, document), { byRank: true }).outputs;
          for (const [name, value] of expected) {
            const where = `${name} at sp ${sp}, dp ${dp}, accumulation ${accumulation}`;
            expect(largestRelative(value, outputs.get(name) as NDArray), where).toBeLessThan(1e-11);
          }
        }
      }
    }
  });
});
