/**
 * @file Verifies a plan as a program is verified: any two steps that touch overlapping bytes, one of them writing, must
 * be ordered by their lane or by a wait. A plan with a race does not compile.
 */
import { boundFaults, type Fault, loopFaults, unwrittenReads } from "./bounds.ts";
import { Clock, sharedLoops, turnedTwice } from "./order.ts";
import type { Loop, Plan, Slot, Step } from "./plan.ts";

export type Race = Fault;

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

type Parts = Pick<Plan, "steps" | "buffers" | "loops">;

/**
 * All races of a plan. Also races are: what lies outside its buffer, arena or loop; a buffer used outside its lifetime, since
 * the planner gave the bytes away; one that is read before anything was written there; and a wait that could never end, or
 * orders nothing.
 */
export function findRaces(plan: Plan): Race[] {
  const broken = loopFaults(plan);
  if (broken.length > 0) return broken;
  const outside = boundFaults(plan);
  return [
    ...outside,
    ...lifetimeFaults(plan),
    ...(outside.length > 0 ? [] : unwrittenReads(plan)),
    ...waitFaults(plan),
    ...unorderedAccesses(plan),
    ...overlaps(plan),
  ];
}

function lifetimeFaults(plan: Parts): Race[] {
  const races: Race[] = [];
  for (const step of plan.steps) {
    for (const slot of [...step.inputs, ...step.outputs, ...(step.workspace ? [step.workspace] : [])]) {
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
    }
  }
  return races;
}

/** Whether a lifetime crosses the border of a loop without covering the loop. */
function livesPartOf(loop: Loop, first: number, last: number): boolean {
  const inside = loop.first <= first && last <= loop.last;
  const covers = first <= loop.first && loop.last <= last;
  return !inside && !covers;
}

/** A lane runs its own steps in order, and a later step can only be waited for from the turn before. */
function waitFaults(plan: Parts): Race[] {
  return plan.steps.flatMap((step) =>
    step.waits.flatMap((before): Race[] => {
      const other = plan.steps[before];
      const fault =
        other.lane === step.lane
          ? "which is on the same lane"
          : before > step.index && sharedLoops(step, other) === 0
            ? "which comes later, and no loop is around both"
            : null;
      const message = `step ${step.index} (${step.lane}) waits for step ${before} (${other.lane}), ${fault}`;
      return fault === null ? [] : [{ first: before, second: step.index, bytes: [0, 0], message }];
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

/** Two accesses to the same bytes, of steps on different lanes; the first in the order of the text. */
interface Conflict {
  readonly a: Access;
  readonly b: Access;
}

function unorderedAccesses(plan: Parts): Race[] {
  if (new Set(plan.steps.map((step) => step.lane)).size <= 1) return [];
  const conflicts = conflictsBetweenLanes(plan);
  const clock = new Clock(plan.steps);
  const races = new Map<Conflict, Race>();
  for (const index of turnedTwice(plan)) {
    clock.begin(index, plan.steps[index].waits);
    for (const conflict of conflicts[index]) {
      const { a, b } = conflict;
      const before = a.step === index ? b : a;
      if (races.has(conflict) || clock.hasEnded(before.step)) continue;
      races.set(conflict, raceOf(plan, before, before === a ? b : a));
    }
  }
  return [...races.values()];
}

function raceOf({ steps }: Parts, first: Access, second: Access): Race {
  const name = ({ step, name }: Access) => `step ${step} (${steps[step].lane}, %${name})`;
  const turn = first.step > second.step ? " in the turn before" : "";
  return {
    first: first.step,
    second: second.step,
    bytes: [Math.max(first.start, second.start), Math.min(first.end, second.end)],
    message: `${name(first)}${turn} and ${name(second)} touch the same bytes and are not ordered`,
  };
}

/** For each step, its conflicts with steps of other lanes. */
function conflictsBetweenLanes(plan: Parts): Conflict[][] {
  const conflicts: Conflict[][] = plan.steps.map(() => []);
  const accesses = plan.steps.flatMap((step) => accessesOf(plan, step)).sort((a, b) => a.start - b.start);
  let open: Access[] = [];
  for (const access of accesses) {
    open = open.filter((other) => other.end > access.start);
    for (const other of open) {
      if (other.memory !== access.memory || !(other.write || access.write)) continue;
      if (plan.steps[other.step].lane === plan.steps[access.step].lane) continue;
      const [a, b] = other.step < access.step ? [other, access] : [access, other];
      conflicts[a.step].push({ a, b });
      conflicts[b.step].push({ a, b });
    }
    open.push(access);
  }
  return conflicts;
}
