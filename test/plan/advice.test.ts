/** @file What a step that does not fit is told: every setting that is advised makes it fit, with the bytes that were said. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { compileConfig, planConfig } from "../../src/compile.ts";
import { parseConfig } from "../../src/config/load.ts";
import { UserError } from "../../src/ir/error.ts";
import { printBytes } from "../../src/ir/units.ts";
import { writeLlama } from "./model.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-advice-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
writeFileSync(join(scratch, "tokens.bin"), Buffer.alloc(4 * 2048));
const model = writeLlama(join(scratch, "model"), { num_hidden_layers: 4 });

type Settings = Readonly<Record<string, unknown>>;

function configOf(settings: readonly (readonly [string, unknown])[]) {
  const values: Record<string, unknown> = {
    ...{ model, data: join(scratch, "tokens.bin"), output_dir: join(scratch, "run") },
    ...{ sequence_length: 1024, max_steps: 1, learning_rate: 1e-3, threads: 1 },
  };
  for (const [path, value] of settings) {
    const [key, inner] = path.split(".");
    values[key] = inner === undefined ? value : { ...(values[key] as Settings | undefined), [inner]: value };
  }
  return parseConfig(JSON.stringify(values), join(scratch, "config.yaml"));
}

const remedyOf = async (settings: Settings): Promise<string> => {
  const error = await compileConfig(configOf(Object.entries(settings))).then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(UserError);
  return (error as UserError).remedy as string;
};

/** The settings that a remedy names, each with the bytes it promises. */
function promised(remedy: string): { key: string; value: unknown; size: string }[] {
  const pattern =
    /(?:[Ss]et |[Uu]se |\()([a-z_.]+)(?::| to) ([a-z0-9]+)( folder on a fast disk)?\)? \(([^)]+)\)/g;
  return [...remedy.matchAll(pattern)].map(([, key, value, folder, size]) => ({
    key,
    value: folder ? scratch : /^\d+$/.test(value) ? Number(value) : value,
    size,
  }));
}

describe("each setting that is advised", () => {
  test.each<[string, Settings, readonly string[]]>([
    [
      "device memory",
      { "memory.device_limit": "5MiB" },
      ["memory.optimizer_offload", "precision", "parallel.sequence"],
    ],
    [
      "layers that keep everything",
      { "memory.device_limit": "11MiB", "memory.activation_checkpointing": "off", "memory.tiled_mlp": "off" },
      ["memory.activation_checkpointing", "precision", "parallel.sequence"],
    ],
    [
      "host memory of the optimizer's moments",
      { "memory.host_limit": "1MiB", "memory.optimizer_offload": "host", sequence_length: 256 },
      ["memory.optimizer_offload"],
    ],
  ])("makes the step fit: %s", async (_, settings, keys) => {
    const remedy = await remedyOf(settings);
    const ways = promised(remedy);
    expect(
      ways.map(({ key }) => key),
      remedy,
    ).toEqual(keys);
    for (const { key, value, size } of ways) {
      const { trials } = await planConfig(configOf([...Object.entries(settings), [key, value]]));
      expect(trials.at(-1)?.excess, `${key}: ${value}`).toBeNull();
      const least = await planConfig(configOf([...Object.entries(settings), [key, value]]), {
        leastOnly: true,
      });
      const { deviceBytes, hostBytes } = least.trials[least.trials.length - 1];
      expect(size).toContain(printBytes(/device/.test(size) ? deviceBytes : hostBytes));
    }
  });
});

test("what is not enough alone is advised together", async () => {
  const remedy = await remedyOf({ "memory.device_limit": "4MiB" });
  expect(remedy).toMatch(
    /^Shorten sequence_length \(ithaca plan --max-sequence finds the longest\), or set memory\.optimizer_offload: host, use precision: bf16, share the sequence between more ranks \(parallel\.sequence: 2\), all together \(3\.\d MiB of device memory\)\.$/,
  );
});

test("what is not enough together is said to be so", async () => {
  const remedy = await remedyOf({ "memory.device_limit": "1MiB" });
  expect(remedy).toMatch(
    /^Raise memory\.device_limit\. Even with this, it needs 3\.\d MiB of device memory: set memory\.optimizer_offload: host, use precision: bf16, share the sequence between more ranks \(parallel\.sequence: 2\)\.$/,
  );
});

test("what is missing of both memories is said of both", async () => {
  const settings = {
    ...{ "memory.device_limit": "4MiB", "memory.host_limit": "1MiB", "memory.activation_offload": "host" },
    ...{ "memory.tiled_mlp": "off", "memory.optimizer_offload": "host", sequence_length: 2048 },
  };
  const { trials } = await planConfig(configOf(Object.entries(settings)));
  expect(trials.at(-1)?.excess).toMatch(
    /^a step needs \S+ MiB of device memory, \S+ MiB more than memory\.device_limit \(4\.0 MiB\), and \S+ MiB of host memory, \S+ MiB more than memory\.host_limit \(1\.0 MiB\)$/,
  );
});
