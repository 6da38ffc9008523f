/** @file The longest sequence that fits, by a search that trusts memory to be nearly linear in the length, and nothing more. */
import { UserError } from "../ir/error.ts";
import { printBytes } from "../ir/units.ts";

/** Bytes that a step needs at a length; the limits are null where there is none. */
export interface Need {
  readonly device: number;
  readonly host: number;
}

export interface SearchOptions {
  readonly limits: { readonly device: number | null; readonly host: number | null };
  /** Lengths tried are multiples of this. */
  readonly multiple: number;
  /** Where to begin. */
  readonly start: number;
  /** The answer is within this part of the longest. */
  readonly tolerance?: number;
}

export interface Found {
  /** The longest that fits, to within the tolerance: this much more does not. */
  readonly sequence: number;
  readonly need: Need;
  /** Which memory stops a longer one. */
  readonly limitedBy: "device" | "host";
  readonly probes: number;
}

interface Probed {
  readonly sequence: number;
  readonly need: Need;
}

/** Halvings and doublings that reach any length a search could meet. */
const MOST_PROBES = 60;

/**
 * Bisection with guesses: between the longest known to fit and the shortest known not to, the next probe is where a line
 * through the two last probes meets the limit, and the middle where that lies outside. So a wrong guess costs a probe,
 * never the answer. Throws a UserError where not even the shortest fits, or there is no limit.
 */
export async function longestSequence(
  needOf: (sequence: number) => Promise<Need>,
  { limits, multiple, start, tolerance = 0.005 }: SearchOptions,
): Promise<Found> {
  if (limits.device === null && limits.host === null) {
    throw new UserError("without a limit every length fits", {
      location: "--max-sequence",
      remedy: "Give a machine (--machine h100-80gb) or a limit (--device-memory 80GiB).",
    });
  }
  const down = (sequence: number): number => Math.max(1, Math.floor(sequence / multiple)) * multiple;
  const fullness = ({ device, host }: Need): number =>
    Math.max(
      device / (limits.device ?? Number.POSITIVE_INFINITY),
      host / (limits.host ?? Number.POSITIVE_INFINITY),
    );
  const probed: Probed[] = [];
  let fits: Probed | null = null;
  let exceeds: Probed | null = null;
  let next = down(start);
  while (probed.length < MOST_PROBES) {
    const need = await needOf(next);
    const own = { sequence: next, need };
    probed.push(own);
    if (fullness(need) <= 1) fits = own;
    else exceeds = own;
    if (exceeds?.sequence === multiple) {
      const needs = (["device", "host"] as const).flatMap((memory) => {
        const limit = limits[memory];
        return limit === null || need[memory] <= limit
          ? []
          : [`${printBytes(need[memory])} of ${memory} memory, and there are ${printBytes(limit)}`];
      });
      const tokens = multiple.toLocaleString("en-US");
      throw new UserError(`not even ${tokens} tokens fit: a step of them needs ${needs.join(", ")}`, {
        location: "--max-sequence",
        remedy: `Without --max-sequence, and with --set sequence_length=${multiple}, ithaca plan says which settings would help.`,
      });
    }
    const step = fits ? Math.max(multiple, fits.sequence * tolerance) : 0;
    if (fits && exceeds && exceeds.sequence - fits.sequence <= step) break;
    next = down(guess(probed, fits, exceeds, limits, step));
    // A probe between two neighbours would be one of them.
    if (fits && next <= fits.sequence) next = fits.sequence + multiple;
    if (exceeds && next >= exceeds.sequence) next = exceeds.sequence - multiple;
  }
  if (!fits || !exceeds) throw new Error("the search for the longest sequence did not end");
  const { device, host } = exceeds.need;
  const overDevice = limits.device === null ? 0 : device / limits.device;
  const overHost = limits.host === null ? 0 : host / limits.host;
  return {
    sequence: fits.sequence,
    need: fits.need,
    limitedBy: overDevice >= overHost ? "device" : "host",
    probes: probed.length,
  };
}

function guess(
  probed: readonly Probed[],
  fits: Probed | null,
  exceeds: Probed | null,
  limits: SearchOptions["limits"],
  step: number,
): number {
  const last = probed.at(-1) as Probed;
  const before = probed.at(-2);
  if (!before) return fits ? last.sequence * 2 : last.sequence / 2;
  const crossing = Math.min(
    ...(["device", "host"] as const).flatMap((memory) => {
      const limit = limits[memory];
      const slope = (last.need[memory] - before.need[memory]) / (last.sequence - before.sequence);
      return limit === null || slope <= 0 ? [] : [last.sequence + (limit - last.need[memory]) / slope];
    }),
  );
  if (fits && exceeds) {
    const middle = (fits.sequence + exceeds.sequence) / 2;
    // Once one side of the guess is known, the other is tried a tolerance away.
    const near = crossing - fits.sequence < step ? fits.sequence + step * 0.9 : crossing - step / 4;
    return near > fits.sequence && near < exceeds.sequence ? near : middle;
  }
  if (fits) return Math.min(Math.max(crossing, last.sequence * 1.01), last.sequence * 64);
  return Math.max(Math.min(crossing, last.sequence * 0.99), last.sequence / 64);
}
