/** @file Arrays by what they were computed from, so that the same computation on the same arrays is done once. */
import type { NDArray } from "./array.ts";

/** Computations must be pure and their arrays left as they are. */
export class Memo {
  readonly #ids = new WeakMap<NDArray, number>();
  #count = 0;
  #now = new Map<string, readonly NDArray[]>();
  #before = new Map<string, readonly NDArray[]>();

  /** What `compute` gives; `what` says all that it depends on but for `operands`, which are told apart as objects. */
  of(what: string, operands: readonly NDArray[], compute: () => readonly NDArray[]): readonly NDArray[] {
    const key = `${what} ${operands.map((operand) => this.#idOf(operand)).join()}`;
    const results = this.#now.get(key) ?? this.#before.get(key) ?? compute();
    this.#now.set(key, results);
    return results;
  }

  /** Forgets what nobody has asked for since this was called before. */
  turn(): void {
    this.#before = this.#now;
    this.#now = new Map();
  }

  #idOf(array: NDArray): number {
    const known = this.#ids.get(array);
    if (known !== undefined) return known;
    this.#ids.set(array, this.#count);
    return this.#count++;
  }
}
