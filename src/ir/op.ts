/** @file What an op record must say. All about an op but how to run it on a machine is in its record. */
import type { NDArray } from "./array.ts";
import type { Attrs, AttrValue, Region, Value } from "./graph.ts";
import type { Mesh, TensorType } from "./type.ts";

/** Floating-point operations and bytes moved to and from memory by one run of an op, all ranks together. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** What a gradient may use: the node's operands and results, and the gradient of each result (null: not needed). */
export interface GradientContext<A> {
  readonly operands: readonly Value[];
  readonly results: readonly Value[];
  readonly attrs: A;
  readonly grads: readonly (Value | null)[];
  readonly body: Region | null;
}

/** One gradient per operand; null for an operand that has none. */
export type Gradients = (Value | null)[];

type Widen<T> = T extends number ? number : T extends boolean ? boolean : T extends string ? string : T;
export type Widened<A> = { readonly [K in keyof A]: Widen<A[K]> };

/** Sizes of the operands and results of one use of an op, as they are to be and as they were. */
export interface Resizing {
  readonly operands: readonly (readonly number[])[];
  readonly results: readonly (readonly number[])[];
  readonly before: {
    readonly operands: readonly (readonly number[])[];
    readonly results: readonly (readonly number[])[];
  };
}

export interface OpDefinition<
  N extends readonly string[] = readonly string[],
  A extends Attrs = Attrs,
  R extends readonly string[] = readonly string[],
> {
  readonly name: string;
  /** One or two sentences and the formula; becomes the reference page. */
  readonly doc: string;
  /** Operand names. A last name that begins with `...` takes any number of values. */
  readonly operands: N;
  /** Result names. A single name that begins with `...` stands for as many results as there are operands. */
  readonly results: R;
  /** Attributes with their defaults. What is default is not printed. */
  readonly attrs: A;
  /**
   * How dimensions of operands and results correspond, einsum-like: see layout.ts for the grammar.
   * "moves": the op only changes the layout and `infer` gives it. "body": the region decides.
   */
  readonly sharding: string | ((attrs: Widened<A>, types: readonly TensorType[]) => string);
  /** Each result is an operand's value (of a collective, a cast, a copy): it is named after the operand. */
  readonly identity?: boolean;
  /** The results are the operand's bytes read with another shape: no kernel, no memory of their own. */
  readonly alias?: boolean;
  /** Each result element depends on the same element of each operand alone (after broadcasting). */
  readonly elementwise?: boolean;
  /** Pairs [result, operand]: the kernel may write this result over that operand, element by element. */
  readonly overwrites?: readonly (readonly [number, number])[];
  /**
   * Attributes that are sizes, for operands and results of other sizes than before: what makes a graph small enough to be
   * run by hand. Left out where no attribute is one.
   */
  readonly resize?: (attrs: Widened<A>, change: Resizing) => Partial<Widened<A>>;
  /** Dimensions [operand, dimension] whose sizes keep their ratio though the sharding rule doesn't tie them. */
  readonly ties?: readonly (readonly [operand: number, dim: number])[];
  /** Global sizes and element types of the results. Throws a UserError when the operands don't fit. */
  infer(
    types: readonly TensorType[],
    attrs: Widened<A>,
    context: { mesh: Mesh; body: Region | null },
  ): TensorType[];
  /** Gradients of the operands, made by calling ops; null for an operand that has none. Null: not differentiable. */
  readonly gradient: ((context: GradientContext<Widened<A>>) => Gradients) | null;
  cost(types: readonly TensorType[], attrs: Widened<A>, results: readonly TensorType[]): Cost;
  /** Bytes that each rank sends to others in one run of a collective; runtime/include/ithaca/comm.h keeps to it. */
  sends?(
    types: readonly TensorType[],
    attrs: Widened<A>,
    context: { results: readonly TensorType[]; mesh: Mesh },
  ): number;
  /**
   * Reference evaluation in float64 on plain arrays, slow and obviously right. `results` gives one rank's sizes,
   * `starts` where its share of each result begins in the whole. Null for ops with a body, which interpret.ts runs.
   */
  readonly eval:
    | ((
        arrays: readonly NDArray[],
        attrs: Widened<A>,
        results: readonly (readonly number[])[],
        starts: readonly (readonly number[])[],
      ) => NDArray[])
    | null;
}

/** The attributes with defaults filled in. Unknown names are our bug and throw. */
export function completeAttrs(record: OpDefinition, given: Partial<Attrs>): Attrs {
  const attrs: Record<string, AttrValue> = { ...record.attrs };
  for (const [name, value] of Object.entries(given)) {
    if (!(name in record.attrs)) throw new Error(`${record.name} has no attribute "${name}"`);
    if (value !== undefined) attrs[name] = value;
  }
  return attrs;
}

/** The sharding rule of a use of the op. */
export function ruleOf({ sharding }: OpDefinition, attrs: Attrs, types: readonly TensorType[]): string {
  return typeof sharding === "string" ? sharding : sharding(attrs, types);
}
