/** @file `defineOp` for files of the user's: bugs in the record are told with their line, and definitions may call the op. */
import { defineOp as define, type Op } from "../ir/define-op.ts";
import { UserError } from "../ir/error.ts";
import type { Attrs } from "../ir/graph.ts";
import type { OpDefinition, Widened } from "../ir/op.ts";
import { throwingLine } from "./thrown.ts";

/** A tensor of a definition, as "ithaca/nn" declares it. */
interface Shaped {
  readonly shape: readonly number[];
}

/** An op of the user's own: called on values in a pass, on tensors in a definition. */
export interface AddedOp<
  N extends readonly string[] = readonly string[],
  A extends Attrs = Attrs,
  R extends readonly string[] = readonly string[],
> extends Op<N, A, R> {
  <T extends Shaped>(
    ...args: [...{ -readonly [I in keyof N]: T }, attributes?: Partial<Widened<A>>]
  ): R extends readonly [string] ? T : { readonly [K in R[number]]: T };
}

/** Makes an op of its record; docs/passes.md says what a record holds. */
export function defineOp<
  const N extends readonly string[],
  const A extends Attrs,
  const R extends readonly string[] = readonly ["result"],
>(definition: Omit<OpDefinition<N, A, R>, "results"> & { readonly results?: R }): AddedOp<N, A, R> {
  const guarded = Object.fromEntries(
    Object.entries(definition).map(([key, value]) => [
      key,
      typeof value === "function" ? placed(`${key} of ${definition.name}`, value) : value,
    ]),
  );
  return define(guarded as unknown as typeof definition) as AddedOp<N, A, R>;
}

/** `run`, whose bugs are told with their line, beside the line of the model that led there. */
function placed(what: string, run: (...args: never[]) => unknown): typeof run {
  return (...args) => {
    try {
      return run(...args);
    } catch (error) {
      const location = throwingLine(error);
      if (location === undefined || error instanceof UserError) throw error;
      throw new UserError(`${what} threw at ${location}: ${(error as Error).message}`);
    }
  };
}
