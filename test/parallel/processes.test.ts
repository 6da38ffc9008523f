/**
 * @file Ranks as processes give the numbers of one rank and of PyTorch: compiled in fp32, over degrees, heads, masks, lengths
 * and accumulation, the loss, the norm and every gradient. Prints the table whose largest values docs/parallel.md shows.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { findMpi, installCommand, mpiPackages } from "../../src/codegen/toolchain.ts";
import { readSafetensors } from "../end-to-end/safetensors.ts";
import { type Distance, distance, type OneStep, oneStep } from "../support/one-step.ts";

const folder = fileURLToPath(new URL("./pytorch/", import.meta.url));

const mpi = await findMpi();
if (!mpi) {
  console.log(
    `skipped: Open MPI isn't installed, so ranks can't be processes: ${installCommand(...mpiPackages)}`,
  );
}

/** Relative: of a tensor, the largest difference by its largest magnitude. */
const most = 1e-5;

const cases = ["mha", "gqa-6-3", "gqa-8-2", "mqa", "heads-28-4"].map((name) => ({
  name,
  ...(JSON.parse(readFileSync(join(folder, name, "step.json"), "utf8")) as {
    readonly about: string;
    readonly sequence_length: number;
    readonly samples: number;
    readonly loss: number;
    readonly grad_norm: number;
    readonly tokens: number;
  }),
}));

/** Ranks of the sequence, of the batch, and micro batches. */
const layouts = [
  [2, 1, 4],
  [3, 1, 2],
  [4, 1, 1],
  [2, 2, 1],
  [3, 2, 2],
  [4, 2, 1],
] as const;

const rows: string[] = [];
afterAll(() => {
  if (rows.length > 0)
    console.log(
      `| run | sp | dp | accumulation | one rank | PyTorch |\n|---|---|---|---|---|---|\n${rows.join("\n")}`,
    );
});

function largest(own: Distance): number {
  return Math.max(own.loss, own.gradNorm, own.gradient);
}

describe.skipIf(!mpi).each(cases)("$about", ({ name, about, samples, sequence_length, ...step }) => {
  const pytorch: OneStep = {
    loss: step.loss,
    gradNorm: step.grad_norm,
    tokens: step.tokens,
    gradients: readSafetensors(join(folder, name, "gradients.safetensors")),
  };
  const run = (sequence: number, data: number, accumulation: number, comm: "local" | "mpi") =>
    oneStep({
      model: join(folder, name, "model"),
      data: join(folder, name, "tokens.bin"),
      sequence_length,
      micro_batch_size: samples / data / accumulation,
      gradient_accumulation_steps: accumulation,
      parallel: { sequence, data, comm },
    });
  let single: Promise<OneStep> | undefined;
  const alone = () => {
    single ??= run(1, 1, 1, "local");
    return single;
  };

  test("one rank alone is PyTorch's", { timeout: 120_000 }, async () => {
    const own = await alone();
    expect(own.tokens).toBe(step.tokens);
    expect([...own.gradients.keys()].sort()).toEqual([...pytorch.gradients.keys()].sort());
    const apart = distance(own, pytorch);
    rows.push(`| ${about} | 1 | 1 | 1 | | ${largest(apart).toExponential(1)} |`);
    expect(largest(apart), apart.worst).toBeLessThan(most);
  });

  test.each(layouts)(
    "sp %i x dp %i x accumulation %i",
    { timeout: 120_000 },
    async (sp, dp, accumulation) => {
      const processes = await run(sp, dp, accumulation, "mpi");
      expect(processes.tokens).toBe(step.tokens);
      const [ours, theirs] = [distance(processes, await alone()), distance(processes, pytorch)];
      rows.push(
        `| ${about} | ${sp} | ${dp} | ${accumulation} | ${largest(ours).toExponential(1)} | ${largest(theirs).toExponential(1)} |`,
      );
      expect(largest(ours), ours.worst).toBeLessThan(most);
      expect(largest(theirs), theirs.worst).toBeLessThan(most);
    },
  );
});
