/**
 * @file Gives every buffer its offset: buffers whose lifetimes do not meet may share bytes.
 *
 * Persistent buffers lie at the bottom of their arena. The others are placed one after the other at the lowest offset
 * where no buffer alive at the same time lies, which is first fit for dynamic storage allocation (Gergov 1999). Which
 * comes first decides how well it fits, and no one order is best for all programs, so three are tried: the largest
 * first, the longest-lived largest first, and in order of birth; the smallest arena wins.
 *
 * Steps on different lanes run at the same time unless one waits. So after placement, every pair of steps that touches
 * common bytes, one of them writing, gets a wait where nothing orders it yet: reuse of memory can cost overlap, but
 * never correctness. The race verifier (ir/race.ts) checks the result independently.
 */
import { aligned, type Buffer, lanes, type Plan, peak, type Step } from "../ir/plan.ts";
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

interface Placement {
  readonly offsets: readonly number[];
  readonly bytes: number;
}

type Order = (a: Buffer, b: Buffer) => number;

const ORDERS: readonly Order[] = [
  (a, b) => b.bytes - a.bytes || a.first - b.first,
  (a, b) => b.bytes * (b.last - b.first + 1) - a.bytes * (a.last - a.first + 1),
  (a, b) => a.first - b.first || b.bytes - a.bytes,
];

/** A placement this close to the lower bound is taken without trying the other orders. */
const GOOD_ENOUGH = 1.002;

function placeBest(buffers: readonly Buffer[], memory: Memory): Placement {
  const bound = lowerBound(buffers, memory);
  let best: Placement | null = null;
  for (const order of ORDERS) {
    const placement = place(buffers, memory, order);
    if (!best || placement.bytes < best.bytes) best = placement;
    if (best.bytes <= bound * GOOD_ENOUGH) break;
  }
  return best as Placement;
}

function lowerBound(buffers: readonly Buffer[], memory: Memory): number {
  const steps = new Array<Step>(Math.max(0, ...buffers.map((buffer) => buffer.last + 1)));
  return peak({ buffers, steps }, memory).bytes;
}

/** First fit in the given order. Plain number arrays, since this is the compiler's one quadratic loop. */
function place(buffers: readonly Buffer[], memory: Memory, order: Order): Placement {
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

/** The steps with the waits that order every conflict between lanes. */
function synchronize(plan: Plan): readonly Step[] {
  if (new Set(plan.steps.map((step) => step.lane)).size <= 1) return plan.steps;
  if (plan.steps.some((step) => step.lane !== "compute" && step.loops.length > 0)) {
    throw new Error("steps of other lanes than compute inside a loop are not ordered yet");
  }
  const accesses = plan.steps.map((step) => accessesOf(plan, step));
  /** For every step, the last step of each lane that has ended before it begins. */
  const clocks: number[][] = [];
  const latest = new Array<number>(lanes.length).fill(-1);
  return plan.steps.map((step) => {
    const lane = lanes.indexOf(step.lane);
    const clock = latest[lane] < 0 ? lanes.map(() => -1) : [...clocks[latest[lane]]];
    clock[lane] = latest[lane];
    const waits: number[] = [];
    for (let before = step.index - 1; before >= 0; before--) {
      const other = lanes.indexOf(plan.steps[before].lane);
      if (other === lane || clock[other] >= before) continue;
      const conflict = accesses[step.index].some((a) =>
        accesses[before].some(
          (b) => (a.write || b.write) && a.memory === b.memory && a.start < b.end && b.start < a.end,
        ),
      );
      if (!conflict) continue;
      waits.push(before);
      clocks[before].forEach((at, i) => {
        clock[i] = Math.max(clock[i], at);
      });
      clock[other] = Math.max(clock[other], before);
    }
    clocks.push(clock);
    latest[lane] = step.index;
    return waits.length > 0 ? { ...step, waits: waits.reverse() } : step;
  });
}
