/**
 * @file Gives every buffer its offset: buffers whose lifetimes do not meet may share bytes.
 *
 * Persistent buffers lie at the bottom of their arena. The others are placed one after the other at the lowest offset
 * where no buffer alive at the same time lies, which is first fit for dynamic storage allocation (Gergov 1999). Which
 * comes first decides how well it fits, and no one order is best for all programs, so three are tried: the largest
 * first, the longest-lived largest first, and in order of birth; the smallest arena wins.
 *
 * Steps on different lanes run at the same time unless one waits. So after placement, every pair of steps that touches
 * common bytes, one of them writing, gets a wait where nothing orders it yet, also from one turn of a loop to the next:
 * reuse of memory can cost overlap, but never correctness. The race verifier (ir/race.ts) checks the result independently.
 */
import { Clock, turnedTwice } from "../ir/order.ts";
import { aligned, type Buffer, type Lane, lanes, type Plan, peak, type Step } from "../ir/plan.ts";
import { accessesOf } from "../ir/race.ts";
import type { Memory } from "../ir/type.ts";

/** The plan with offsets, arena sizes and waits. */
export function planMemory(plan: Plan): Plan {
  const device = placeBest(plan.buffers, "device");
  const host = placeBest(plan.buffers, "host");
  const buffers = plan.buffers.map((buffer, i) => ({
    ...buffer,
    offset: (buffer.memory === "device" ? device : host).offsets[i],
  }));
  const placed = { ...plan, buffers, deviceBytes: device.bytes, hostBytes: host.bytes };
  return { ...placed, steps: synchronize(placed), deviceLowerBound: peak(placed).bytes };
}

/** What decides where a buffer can lie. */
export type Placeable = Pick<Buffer, "memory" | "bytes" | "persistent" | "first" | "last">;

export interface Placement {
  /** One for each buffer; 0 for those of the other memory. */
  readonly offsets: readonly number[];
  readonly bytes: number;
}

type Order = (a: Placeable, b: Placeable) => number;

const ORDERS: readonly Order[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * (b.last - b.first + 1) - a.bytes * (a.last - a.first + 1),
  (a, b) => a.first - b.first || b.bytes - a.bytes,
];

/** A placement this close to the lower bound is taken without trying the other orders. */
const GOOD_ENOUGH = 1.002;

/** Offsets in the arena of `memory`, and its size: the best of the orders. */
export function placeBest(buffers: readonly Placeable[], memory: Memory): Placement {
  const bound = lowerBound(buffers, memory);
  let best: Placement | null = null;
  for (const order of ORDERS) {
    const placement = place(buffers, memory, order);
    if (!best || placement.bytes < best.bytes) best = placement;
    if (best.bytes <= bound * GOOD_ENOUGH) break;
  }
  return best as Placement;
}

function lowerBound(buffers: readonly Placeable[], memory: Memory): number {
  const length = buffers.reduce((most, { last }) => Math.max(most, last + 1), 0);
  return peak({ buffers, steps: { length } }, memory).bytes;
}

/** First fit in the given order. Plain number arrays, since this is the compiler's one quadratic loop. */
function place(buffers: readonly Placeable[], memory: Memory, order: Order): Placement {
  const offsets = new Float64Array(buffers.length);
  let bottom = 0;
  buffers.forEach((buffer, i) => {
    if (buffer.memory !== memory || !buffer.persistent) return;
    offsets[i] = bottom;
    bottom += aligned(buffer.bytes);
  });
  const indices = buffers.flatMap((buffer, i) => (buffer.memory === memory && !buffer.persistent ? [i] : []));
  indices.sort((a, b) => order(buffers[a], buffers[b]));
  const first = Int32Array.from(buffers, (buffer) => buffer.first);
  const last = Int32Array.from(buffers, (buffer) => buffer.last);
  const sizes = Float64Array.from(buffers, (buffer) => aligned(buffer.bytes));
  /** Indices of placed buffers, by offset. */
  const placed = new Int32Array(indices.length);
  let count = 0;
  let top = bottom;
  for (const index of indices) {
    const [birth, death, size] = [first[index], last[index], sizes[index]];
    let offset = bottom;
    for (let i = 0; i < count; i++) {
      const other = placed[i];
      if (first[other] > death || birth > last[other]) continue;
      if (offsets[other] >= offset + size) break;
      offset = Math.max(offset, offsets[other] + sizes[other]);
    }
    offsets[index] = offset;
    top = Math.max(top, offset + size);
    let at = count++;
    for (; at > 0 && offsets[placed[at - 1]] > offset; at--) placed[at] = placed[at - 1];
    placed[at] = index;
  }
  return { offsets: [...offsets], bytes: top };
}

/** The steps with the waits that order every conflict between lanes, from turn to turn of a loop too. */
function synchronize(plan: Plan): readonly Step[] {
  const { steps } = plan;
  if (new Set(steps.map((step) => step.lane)).size <= 1) return steps;
  const accesses = steps.map((step) => accessesOf(plan, step));
  const clash = (a: number, b: number) =>
    accesses[a].some((own) =>
      accesses[b].some(
        (other) =>
          (own.write || other.write) &&
          own.memory === other.memory &&
          own.start < other.end &&
          other.start < own.end,
      ),
    );
  const waits: number[][] = steps.map(() => []);
  const clock = new Clock(steps);
  const trace = turnedTwice(plan);
  /** Times at which the steps of each lane began. */
  const began = new Map(lanes.map((lane) => [lane, [] as number[]]));
  trace.forEach((index, time) => {
    const { lane } = steps[index];
    clock.begin(index, waits[index]);
    for (const at of newestFirst(began, lane, clock)) {
      if (!clash(index, trace[at])) continue;
      waits[index].push(trace[at]);
      clock.wait(trace[at]);
    }
    began.get(lane)?.push(time);
  });
  return steps.map((step) =>
    waits[step.index].length > 0 ? { ...step, waits: waits[step.index].sort((a, b) => a - b) } : step,
  );
}

/** Times of what began on other lanes than `own` and is not known to have ended, the newest first. */
function* newestFirst(
  began: ReadonlyMap<Lane, readonly number[]>,
  own: Lane,
  clock: Clock,
): Generator<number> {
  const others = lanes.filter((lane) => lane !== own);
  const times = others.map((lane) => began.get(lane) as readonly number[]);
  const next = times.map((list) => list.length - 1);
  for (;;) {
    let newest = -1;
    others.forEach((lane, i) => {
      const time = times[i][next[i]] ?? -1;
      if (time <= clock.endedUntil(lane)) next[i] = -1;
      else if (newest < 0 || time > times[newest][next[newest]]) newest = i;
    });
    if (newest < 0) return;
    yield times[newest][next[newest]--];
  }
}
