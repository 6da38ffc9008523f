/**
 * @file Verifies a plan as a program is verified: any two steps that touch overlapping bytes, one of them writing, must
 * be ordered by their lane or by a wait. A plan with a race does not compile.
 */
import { lanes, type Plan, type Slot, type Step } from "./plan.ts";

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

/**
 * All races of a plan. Also a race: a step that reads bytes which another value overwrote, that is, a buffer used
 * outside its lifetime (`first` to `last`), since the planner gave the bytes away.
 */
export function findRaces(plan: Pick<Plan, "steps" | "buffers" | "loops">): Race[] {
  return [...lifetimeFaults(plan), ...unorderedAccesses(plan), ...overlaps(plan)];
}

function lifetimeFaults(plan: Pick<Plan, "steps" | "buffers" | "loops">): Race[] {
  return plan.steps.flatMap((step) =>
    [...step.inputs, ...step.outputs, ...(step.workspace ? [step.workspace] : [])].flatMap((slot): Race[] => {
      const { persistent, first, last, offset, bytes } = plan.buffers[slot.buffer];
      const loop =
        step.loops.length > 0 ? plan.loops[step.loops[0]] : { first: step.index, last: step.index };
      if (persistent || (first <= step.index && step.index <= last && first <= loop.last)) return [];
      const message = `step ${step.index} uses %${slot.name}, whose bytes belong to it only from step ${first} to ${last}`;
      return [{ first: step.index, second: step.index, bytes: [offset, offset + bytes], message }];
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

function unorderedAccesses(plan: Pick<Plan, "steps" | "buffers" | "loops">): Race[] {
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
