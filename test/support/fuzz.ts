/** @file How many random programs a law is tried on. */

/** `count`, or ITHACA_FUZZ times as many, for a long search. */
export function runs(count: number): { numRuns: number } {
  return { numRuns: count * Number(process.env.ITHACA_FUZZ ?? 1) };
}
