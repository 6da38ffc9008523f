/** @file The search for the longest sequence: what it returns fits, and a little more does not. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { longestSequence, type Need } from "../../src/plan/search.ts";

const search = async (
  needOf: (sequence: number) => Need,
  limits: { device: number | null; host: number | null },
  start = 4096,
  multiple = 256,
) => {
  const tried: number[] = [];
  const found = await longestSequence(
    async (sequence) => {
      tried.push(sequence);
      return needOf(sequence);
    },
    { limits, start, multiple },
  );
  return { ...found, tried };
};

/** Whether a need is within the limits. */
const fits = ({ device, host }: Need, limits: { device: number | null; host: number | null }): boolean =>
  device <= (limits.device ?? Number.POSITIVE_INFINITY) && host <= (limits.host ?? Number.POSITIVE_INFINITY);

test("a line is found in a few probes, from far away", async () => {
  const limits = { device: 80e9, host: null };
  const found = await search((tokens) => ({ device: 5e9 + 30_000 * tokens, host: 0 }), limits);
  expect(found.sequence).toBeGreaterThan(2_500_000 * 0.994);
  expect(found.sequence).toBeLessThanOrEqual(2_500_000);
  expect(found.probes).toBeLessThanOrEqual(6);
  expect(found.limitedBy).toBe("device");
});

test("which memory stops it", async () => {
  const needOf = (tokens: number) => ({ device: 1e9 + 10_000 * tokens, host: 2e9 + 90_000 * tokens });
  const found = await search(needOf, { device: 80e9, host: 200e9 });
  expect(found.limitedBy).toBe("host");
  expect(fits(found.need, { device: 80e9, host: 200e9 })).toBe(true);
});

test("from above as well as from below", async () => {
  const needOf = (tokens: number) => ({ device: 1e9 + 1e6 * tokens, host: 0 });
  const below = await search(needOf, { device: 2e9, host: null }, 1e6, 16);
  expect(below.sequence).toBeLessThanOrEqual(1000);
  expect(below.sequence).toBeGreaterThanOrEqual(976);
});

test("property: what it returns fits, a tolerance more does not, and every length is a multiple", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        base: fc.integer({ min: 0, max: 60 }),
        slope: fc.integer({ min: 1, max: 1000 }),
        // Memory jumps where the number of tiles does.
        jump: fc.integer({ min: 0, max: 4 }),
        every: fc.integer({ min: 300, max: 100_000 }),
        curve: fc.constantFrom(0.9, 1, 1.2),
        start: fc.integer({ min: 1, max: 10_000_000 }),
        multiple: fc.constantFrom(16, 256, 2048),
      }),
      async ({ base, slope, jump, every, curve, start, multiple }) => {
        const needOf = (tokens: number) => ({
          device: base * 1e9 + slope * 100 * tokens ** curve + jump * 1e6 * Math.floor(tokens / every),
          host: 0,
        });
        const limits = { device: 64e9, host: null };
        if (!fits(needOf(2 * multiple), limits)) return;
        const { sequence, probes, tried } = await search(needOf, limits, start, multiple);
        expect(tried.every((tokens) => tokens % multiple === 0)).toBe(true);
        expect(fits(needOf(sequence), limits)).toBe(true);
        expect(fits(needOf(sequence + Math.max(multiple, sequence * 0.005)), limits)).toBe(false);
        expect(probes).toBeLessThan(40);
      },
    ),
    { numRuns: 300 },
  );
});

describe("refusals", () => {
  test("no limit", async () => {
    await expect(search(() => ({ device: 1, host: 1 }), { device: null, host: null })).rejects.toThrow(
      "without a limit every length fits",
    );
  });

  test("not even the shortest fits", async () => {
    await expect(search(() => ({ device: 90e9, host: 0 }), { device: 80e9, host: null })).rejects.toThrow(
      "not even 256 tokens fit: a step of them needs 83.8 GiB of device memory, and there are 74.5 GiB",
    );
  });
});
