/**
 * @file Which bytes of the arenas belong to nobody, step by step: a debug build fills them with NaN, so that what reads a
 * value before it is written, or after its bytes were given away, computes NaN instead of something plausible. Built with
 * AddressSanitizer, it ends where such bytes are touched at all, so a write that goes too far shows as well.
 *
 * A buffer is taken before the first step that touches it, and given back after the last one; both fill it. Inside a loop
 * that goes for buffers that live within one turn; those that cross its border keep their bytes, and are only opened
 * before each first touch. Given back is a buffer only where all steps that touch it are on one lane: there the fill comes
 * before whatever the next owner of the bytes waits for. Bytes of the file are left as they are: what `fetch` reads comes to
 * host memory before anything computes with it.
 */
import type { Buffer, Plan, Slot, Step } from "../ir/plan.ts";

/** Indices of buffers to take, open and give back around a step. */
export interface Poison {
  readonly take: readonly number[];
  /** May be touched from here on, and keep their bytes. */
  readonly open: readonly number[];
  readonly giveBack: readonly number[];
}

/** What to do around each step; steps that are not there have nothing to do. */
export function poisonOf(plan: Plan): ReadonlyMap<number, Poison> {
  const touched = plan.buffers.map((): Step[] => []);
  for (const step of plan.steps) {
    for (const buffer of new Set(slotsOf(step).map((slot) => slot.buffer))) touched[buffer].push(step);
  }
  const poison = new Map<number, Record<keyof Poison, number[]>>();
  const at = (step: Step) => {
    const known = poison.get(step.index) ?? { take: [], open: [], giveBack: [] };
    poison.set(step.index, known);
    return known;
  };
  plan.buffers.forEach((buffer, index) => {
    const steps = touched[index];
    if (buffer.persistent || buffer.bytes === 0 || steps.length === 0) return;
    const [first, last] = [steps[0], steps[steps.length - 1]];
    const isFresh = isOfOneTurn(buffer, first, plan) && !first.inputs.some((slot) => slot.buffer === index);
    at(first)[isFresh ? "take" : "open"].push(index);
    if (isOfOneTurn(buffer, last, plan) && steps.every(({ lane }) => lane === last.lane))
      at(last).giveBack.push(index);
  });
  return poison;
}

const slotsOf = ({ inputs, outputs, workspace }: Step): Slot[] => [
  ...inputs,
  ...outputs,
  ...(workspace ? [workspace] : []),
];

/** Whether the buffer is born and dies within one turn of every loop around `step`. */
function isOfOneTurn({ first, last }: Buffer, { loops }: Step, plan: Plan): boolean {
  return loops.every((index) => {
    const loop = plan.loops[index];
    // A lifetime that covers the whole loop may be that of a value from outside.
    return loop.first <= first && last <= loop.last && !(first === loop.first && last === loop.last);
  });
}
