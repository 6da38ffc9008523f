/**
 * @file The events of a program: where a lane waits for another, for how many signals, and where it is signalled.
 *
 * An event is given once in each turn of the loops that are around both the step that signals and the one that waits. So
 * its n-th signal is that of turn n - 1 of those loops, counted through, and a wait can say which one it needs.
 */
import { sharedLoops } from "../ir/order.ts";
import type { Loop, Plan, Step } from "../ir/plan.ts";

export interface Wait {
  readonly event: number;
  /** How many signals there must have been, as C++ on `turn`. */
  readonly signals: string;
}

export class Events {
  readonly #plan: Plan;
  /** Events by the step that signals and the number of loops around it and the waiting step. */
  readonly #numbers = new Map<string, number>();

  constructor(plan: Plan) {
    this.#plan = plan;
    const awaited = plan.steps.flatMap((step) =>
      step.waits.map((before) => ({ before, depth: sharedLoops(step, plan.steps[before]) })),
    );
    awaited.sort((a, b) => a.before - b.before || a.depth - b.depth);
    for (const { before, depth } of awaited) {
      const key = `${before} ${depth}`;
      if (!this.#numbers.has(key)) this.#numbers.set(key, this.#numbers.size);
    }
  }

  get count(): number {
    return this.#numbers.size;
  }

  /** What `steps` wait for inside `depth` loops: in front of the step, or of the loop around it that begins there. */
  waits(steps: readonly Step[], depth: number): Wait[] {
    const waits = steps.flatMap((step) =>
      step.waits
        .filter((before) => sharedLoops(step, this.#plan.steps[before]) === depth)
        .map((before): Wait => {
          const loops = step.loops.slice(0, depth).map((loop) => this.#plan.loops[loop]);
          const signals = turnsBefore(loops, before < step.index ? 1 : 0);
          return { event: this.#numbers.get(`${before} ${depth}`) as number, signals };
        }),
    );
    const first = (own: Wait) =>
      waits.find(({ event, signals }) => event === own.event && signals === own.signals);
    return waits.filter((own) => first(own) === own);
  }

  /** Events that `steps` signal inside `depth` loops: behind the step, or behind the loop around it that ends there. */
  signals(steps: readonly Step[], depth: number): number[] {
    return steps.flatMap(({ index }) => this.#numbers.get(`${index} ${depth}`) ?? []);
  }
}

/** Turns that the loops have begun, outermost first and counted through, without the one that runs; plus `more`. */
function turnsBefore(loops: readonly Loop[], more: number): string {
  if (loops.length === 0) return String(more);
  const terms = loops.map((_, depth) => {
    const inner = loops.slice(depth + 1).reduce((total, { times }) => total * times, 1);
    return inner === 1 ? `turn[${depth}]` : `turn[${depth}] * ${inner}`;
  });
  return [...terms, ...(more > 0 ? [more] : [])].join(" + ");
}
