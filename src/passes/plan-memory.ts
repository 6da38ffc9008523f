/**
 * @file Gives every buffer its offset: buffers whose lifetimes do not meet may share bytes.
 *
 * Persistent buffers lie at the bottom of their arena, the others where placement.ts finds room.
 *
 * Steps on different lanes run at the same time unless one waits. So after placement, every pair of steps that touches
 * common bytes, one of them writing, gets a wait where nothing orders it yet, also from one turn of a loop to the next:
 * reuse of memory can cost overlap, but never correctness. The race verifier (ir/race.ts) checks the result independently.
 */
import { Clock, turnedTwice } from "../ir/order.ts";
import { type Lane, lanes, type Plan, peak, type Step } from "../ir/plan.ts";
import { accessesOf } from "../ir/race.ts";
import type { Memory } from "../ir/type.ts";
import { type Placement, placeBest } from "./placement.ts";

/** The plan with offsets, arena sizes and waits. */
export function planMemory(plan: Plan): Plan {
  const arenas: Readonly<Record<Memory, Placement>> = {
    device: placeBest(plan.buffers, "device"),
    host: placeBest(plan.buffers, "host"),
    file: placeBest(plan.buffers, "file"),
  };
  const { device, host, file } = arenas;
  const buffers = plan.buffers.map((buffer, i) => ({ ...buffer, offset: arenas[buffer.memory].offsets[i] }));
  const sizes = { deviceBytes: device.bytes, hostBytes: host.bytes, fileBytes: file.bytes };
  const placed = { ...plan, buffers, ...sizes };
  return { ...placed, steps: synchronize(placed), deviceLowerBound: peak(placed).bytes };
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
