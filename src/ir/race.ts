/**
 * @file Verifies a plan as a program is verified: any two steps that touch overlapping bytes, one of them writing, must
 * be ordered by their lane or by a wait. A plan with a race does not compile.
 */
import { type Loop, lanes, type Plan, type Slot, type Step } from "./plan.ts";

export interface Race {
  readonly first: number;
  readonly second: number;
  readonly bytes: readonly [number, number];
  readonly message: string;
}

interface Access {
  readonly step: number;
  readonly name: string;
  readonly write: boolean;
  readonly memory: string;
  readonly start: number;
  readonly end: number;
}

/** Every access of a step, over all turns of its loops. */
export function accessesOf(plan: Pick<Plan, "buffers" | "loops">, step: Step): Access[] {
  const access = (slot: Slot, write: boolean): Access => {
    const { offset, bytes, memory } = plan.buffers[slot.buffer];
    return { step: step.index, name: slot.name, write, memory, start: offset, end: offset + bytes };
  };
  return [
    ...step.inputs.map((slot) => access(slot, false)),
    ...step.outputs.map((slot) => access(slot, true)),
    ...(step.workspace ? [access(step.workspace, true)] : []),
  ];
}

/** For every step, the last step of each lane that has surely ended before it begins. */
function clocks(plan: Pick<Plan, "steps">): number[][] {
  const known: number[][] = [];
  const latest = new Map<string, number>();
  for (const step of plan.steps) {
    const clock = new Array<number>(lanes.length).fill(-1);
    const previous = latest.get(step.lane);
    for (const before of [...(previous === undefined ? [] : [previous]), ...step.waits]) {
      const lane = lanes.indexOf(plan.steps[before].lane);
      known[before].forEach((at, i) => {
        clock[i] = Math.max(clock[i], at);
      });
      clock[lane] = Math.max(clock[lane], before);
    }
    known.push(clock);
    latest.set(step.lane, step.index);
  }
  return known;
}

type Parts = Pick<Plan, "steps" | "buffers" | "loops">;

/**
 * All races of a plan. Also races are: a buffer used outside its lifetime, since the planner gave the bytes away; one
 * that is read before anything was written there; and a wait for one turn of a loop where all of them are meant.
 */
export function findRaces(plan: Parts): Race[] {
  return [...lifetimeFaults(plan), ...loopFaults(plan), ...unorderedAccesses(plan), ...overlaps(plan)];
}

function lifetimeFaults(plan: Parts): Race[] {
  const races: Race[] = [];
  const written = new Set<number>();
  for (const step of plan.steps) {
    const outputs = [...step.outputs, ...(step.workspace ? [step.workspace] : [])];
    for (const slot of [...step.inputs, ...outputs]) {
      const { persistent, first, last, offset, bytes } = plan.buffers[slot.buffer];
      const complain = (what: string) =>
        races.push({
          first: step.index,
          second: step.index,
          bytes: [offset, offset + bytes],
          message: `step ${step.index} uses %${slot.name}, ${what}`,
        });
      if (persistent) continue;
      if (step.index < first || last < step.index) {
        complain(`whose bytes belong to it only from step ${first} to ${last}`);
      }
      // A turn begins where the last one ended: what comes from outside, or goes out, must not lose its bytes between.
      const cut = step.loops.map((index) => plan.loops[index]).find((loop) => livesPartOf(loop, first, last));
      if (cut) {
        complain(
          `which lives from step ${first} to ${last}, only a part of the loop from ${cut.first} to ${cut.last}`,
        );
      }
      if (step.inputs.includes(slot) && !written.has(slot.buffer)) complain("which nothing has written yet");
    }
    for (const slot of outputs) written.add(slot.buffer);
  }
  return races;
}

/** Whether a lifetime crosses the border of a loop without covering the loop. */
function livesPartOf(loop: Loop, first: number, last: number): boolean {
  const inside = loop.first <= first && last <= loop.last;
  const covers = first <= loop.first && loop.last <= last;
  return !inside && !covers;
}

/** The n-th wait for an event needs n signals, so a step inside a loop and one outside can't wait for each other. */
function loopFaults(plan: Parts): Race[] {
  return plan.steps.flatMap((step) =>
    step.waits
      .filter((before) => plan.steps[before].loops.join() !== step.loops.join())
      .map((before): Race => {
        const message = `step ${step.index} (${step.lane}) waits for step ${before} (${plan.steps[before].lane}), but they turn in different loops`;
        return { first: before, second: step.index, bytes: [0, 0], message };
      }),
  );
}

/** Two buffers of one arena that share bytes while both are alive. */
function overlaps(plan: Pick<Plan, "buffers">): Race[] {
  const sorted = plan.buffers.map((buffer, index) => ({ ...buffer, index })).filter(({ bytes }) => bytes > 0);
  sorted.sort((a, b) => a.offset - b.offset);
  const races: Race[] = [];
  let open: typeof sorted = [];
  for (const buffer of sorted) {
    open = open.filter((other) => other.offset + other.bytes > buffer.offset);
    for (const other of open) {
      if (other.memory !== buffer.memory) continue;
      const together =
        other.persistent || buffer.persistent || (other.first <= buffer.last && buffer.first <= other.last);
      if (!together) continue;
      const message = `%${other.name} and %${buffer.name} share bytes from ${buffer.offset} on while both are alive`;
      races.push({
        first: Math.max(0, other.first),
        second: buffer.first,
        bytes: [buffer.offset, other.offset + other.bytes],
        message,
      });
    }
    open.push(buffer);
  }
  return races;
}

function unorderedAccesses(plan: Parts): Race[] {
  if (new Set(plan.steps.map((step) => step.lane)).size <= 1) return [];
  const clock = clocks(plan);
  const accesses = plan.steps.flatMap((step) => accessesOf(plan, step)).sort((a, b) => a.start - b.start);
  const races: Race[] = [];
  let open: Access[] = [];
  for (const access of accesses) {
    open = open.filter((other) => other.end > access.start);
    for (const other of open) {
      if (other.memory !== access.memory || !(other.write || access.write)) continue;
      const [a, b] = other.step < access.step ? [other, access] : [access, other];
      const [first, second] = [plan.steps[a.step], plan.steps[b.step]];
      if (first.lane === second.lane || clock[b.step][lanes.indexOf(first.lane)] >= a.step) continue;
      const message = `step ${a.step} (${first.lane}, %${a.name}) and step ${b.step} (${second.lane}, %${b.name}) touch the same bytes and are not ordered`;
      races.push({
        first: a.step,
        second: b.step,
        bytes: [access.start, Math.min(access.end, other.end)],
        message,
      });
    }
    open.push(access);
  }
  return races;
}
