/** @file Makes an op of its record: a function that appends a node, with the record beside it. */
import { append, type NodeOptions } from "./build.ts";
import type { Attrs, Value } from "./graph.ts";
import type { OpDefinition, Widened } from "./op.ts";

type Operands<N extends readonly string[]> = N extends readonly [
  ...infer Head extends string[],
  `...${string}`,
]
  ? [...{ [I in keyof Head]: Value }, readonly Value[]]
  : { -readonly [I in keyof N]: Value };
type Results<R extends readonly string[]> = R extends readonly [`...${string}`]
  ? readonly Value[]
  : R extends readonly [string]
    ? Value
    : { readonly [I in keyof R]: Value };

/** An op: call it on values to append a node to the open builder. */
export interface Op<
  N extends readonly string[] = readonly string[],
  A extends Attrs = Attrs,
  R extends readonly string[] = readonly string[],
> {
  (...args: [...Operands<N>, attrs?: Partial<Widened<A>>, options?: NodeOptions]): Results<R>;
  readonly record: OpDefinition<N, A, R>;
}

/** Makes an op of its record. */
export function defineOp<
  const N extends readonly string[],
  const A extends Attrs,
  const R extends readonly string[] = readonly ["result"],
>(definition: Omit<OpDefinition<N, A, R>, "results"> & { readonly results?: R }): Op<N, A, R> {
  const record = { results: ["result"], ...definition } as unknown as OpDefinition<N, A, R>;
  const arity = record.operands.length;
  const call = (...args: unknown[]): unknown => {
    const operands = args.slice(0, arity).flat() as Value[];
    const attrs = (args[arity] ?? {}) as Partial<Attrs>;
    const results = append(
      record as unknown as OpDefinition,
      operands,
      attrs,
      (args[arity + 1] ?? {}) as NodeOptions,
    );
    const [name, ...others] = record.results;
    return others.length === 0 && !name.startsWith("...") ? results[0] : results;
  };
  return Object.assign(call, { record }) as unknown as Op<N, A, R>;
}
