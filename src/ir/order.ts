/**
 * @file In which order a plan's steps run: what a lane and its waits say about what has ended when a step begins.
 *
 * A step that waits for another begins once all of the other has ended that comes before it in the order of the plan, in
 * which every loop is written out. So a wait for an earlier step is for the same turn of the loops around both, and a
 * wait for a later one for the turn before. A loop around one of the two only is not begun, or not left, in between: the
 * waiting lane waits at the border of the outermost such loop of its own, and the other lane signals at the border of
 * its outermost.
 */
import { type Lane, lanes, type Plan, type Step } from "./plan.ts";

/** How many loops are around both steps, outermost first: the level at which one waits for the other. */
export function sharedLoops(a: Step, b: Step): number {
  let depth = 0;
  while (depth < a.loops.length && a.loops[depth] === b.loops[depth]) depth++;
  return depth;
}

/** Numbers of steps as they run when every loop turns twice. Any two neighbouring turns of a loop look like these two. */
export function turnedTwice({ steps, loops }: Pick<Plan, "steps" | "loops">): number[] {
  const lay = (from: number, to: number, depth: number): number[] => {
    const out: number[] = [];
    for (let at = from; at < to; ) {
      const loop = steps[at].loops[depth];
      if (loop === undefined) {
        out.push(at++);
        continue;
      }
      const end = loops[loop].last + 1;
      const turn = lay(at, end, depth + 1);
      for (let i = 0; i < Math.min(2, loops[loop].times); i++) out.push(...turn);
      at = end;
    }
    return out;
  };
  return lay(0, steps.length, 0);
}

/** Follows a plan step by step and knows of each lane until when all of it has surely ended. Time counts steps followed. */
export class Clock {
  readonly #steps: readonly Step[];
  /** When each step last began, and what had ended then. */
  readonly #began: number[];
  readonly #known: Known[];
  readonly #latest = new Map<Lane, number>();
  #now: Known = never();
  #time = -1;

  constructor(steps: readonly Step[]) {
    this.#steps = steps;
    this.#began = steps.map(() => -1);
    this.#known = steps.map(never);
  }

  /** The next step begins, behind its lane's last one and all that it waits for. */
  begin(index: number, waits: readonly number[]): void {
    const { lane } = this.#steps[index];
    const previous = this.#latest.get(lane);
    this.#now = never();
    for (const before of previous === undefined ? waits : [previous, ...waits]) this.#join(before);
    this.#time++;
    this.#latest.set(lane, index);
    this.#known[index] = this.#now;
    this.#began[index] = this.#time;
  }

  /** The step that has just begun waits for this one too. */
  wait(before: number): void {
    this.#join(before);
  }

  #join(before: number): void {
    if (this.#began[before] < 0) return;
    for (const lane of lanes) this.#now[lane] = Math.max(this.#now[lane], this.#known[before][lane]);
    const { lane } = this.#steps[before];
    this.#now[lane] = Math.max(this.#now[lane], this.#began[before]);
  }

  /** The time until which everything on a lane has ended when the step begins that has just begun. */
  endedUntil(lane: Lane): number {
    return this.#now[lane];
  }

  /** Whether all runs so far of a step on another lane have surely ended before the one that has just begun. */
  hasEnded(index: number): boolean {
    return this.#began[index] <= this.#now[this.#steps[index].lane];
  }
}

type Known = Record<Lane, number>;

const never = (): Known => Object.fromEntries(lanes.map((lane) => [lane, -1])) as Known;
