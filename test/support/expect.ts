/** @file Expectations that several tests share. */
import { expect } from "vitest";
import type { NDArray } from "../../src/ir/array.ts";
import { formatError, UserError } from "../../src/ir/error.ts";
import { errorOf } from "./random.ts";

type Numbers = NDArray | ArrayLike<number>;

const dataOf = (numbers: Numbers): ArrayLike<number> => ("data" in numbers ? numbers.data : numbers);

/** Every array of `want` is in `got` and equal to within `most`, relative to its largest magnitude. */
export function expectClose(
  got: ReadonlyMap<string, Numbers>,
  want: ReadonlyMap<string, Numbers>,
  most: number,
): void {
  for (const [name, numbers] of want) {
    const own = got.get(name);
    expect(own, `there is no ${name}`).toBeDefined();
    if (own) expect(errorOf(dataOf(own), dataOf(numbers)), name).toBeLessThanOrEqual(most);
  }
}

/** The message with which something is refused, as a person reads it. */
export async function refusalOf(run: () => unknown): Promise<string> {
  try {
    await run();
  } catch (error) {
    if (error instanceof UserError) return formatError(error);
    throw error;
  }
  return "nothing was wrong";
}
