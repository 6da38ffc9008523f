/**
 * @file Which bytes of the arenas belong to nobody, step by step: a debug build fills them with NaN, so that what reads a
 * value before it is written, or after its bytes were given away, computes NaN instead of something plausible.
 *
 * A buffer is filled before the first step that touches it, and after the last one. Inside a loop that goes for buffers
 * that live within one turn; those that cross its border keep their bytes. After the last step only where all steps that
 * touch the buffer are on one lane: there the fill comes before whatever the next owner of the bytes waits for.
 */
import type { Buffer, Plan, Slot, Step } from "../ir/plan.ts";

/** Indices of buffers to fill around a step. */
export interface Poison {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** What to fill around each step; steps that are not there have nothing to fill. */
export function poisonOf(plan: Plan): ReadonlyMap<number, Poison> {
  const touched = plan.buffers.map((): Step[] => []);
  for (const step of plan.steps) {
    for (const buffer of new Set(slotsOf(step).map((slot) => slot.buffer))) touched[buffer].push(step);
  }
  const poison = new Map<number, { before: number[]; after: number[] }>();
  const at = (step: Step) => {
    const known = poison.get(step.index) ?? { before: [], after: [] };
    poison.set(step.index, known);
    return known;
  };
  plan.buffers.forEach((buffer, index) => {
    const steps = touched[index];
    if (buffer.persistent || buffer.bytes === 0 || steps.length === 0) return;
    const [first, last] = [steps[0], steps[steps.length - 1]];
    if (isOfOneTurn(buffer, first, plan) && !first.inputs.some((slot) => slot.buffer === index))
      at(first).before.push(index);
    if (isOfOneTurn(buffer, last, plan) && steps.every(({ lane }) => lane === last.lane))
      at(last).after.push(index);
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
