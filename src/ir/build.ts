/** @file Building graphs: the open builder to which calls of ops append, and the naming of values. */
import { UserError } from "./error.ts";
import type { Attrs, Graph, Node, Param, Region, Role, Value } from "./graph.ts";
import { layoutOf, wrongRank } from "./layout.ts";
import { completeAttrs, type OpDefinition, ruleOf } from "./op.ts";
import { type Mesh, printType, sizesOf, type TensorType } from "./type.ts";

export interface NodeOptions {
  /** Wished name of the first result (or of each); made unique. Without it the builder's `serving` name is used. */
  readonly name?: string | readonly string[];
  readonly loc?: string;
  readonly body?: Region;
}

/** Names that are taken at the top of a graph. */
export function namesOf(graph: Graph): string[] {
  return [
    ...graph.params.map(({ value }) => value.name),
    ...graph.nodes.flatMap((node) => node.results.map((result) => result.name)),
  ];
}

/** Collects nodes in order and keeps names unique. One builder is open at a time; ops append to it. */
export class Builder {
  readonly mesh: Mesh;
  readonly params: Param[] = [];
  readonly nodes: Node[] = [];
  /** Location given to nodes that name none. */
  loc = "";
  /** Name on which unnamed results are based: of the value that a pass is replacing. */
  serving = "t";
  readonly #names: Set<string>;
  /** Values made here, which only this builder may still rename. */
  readonly #made = new Set<Value>();

  constructor(mesh: Mesh, reserved: Iterable<string> = []) {
    this.mesh = mesh;
    this.#names = new Set(reserved);
  }

  /** A builder that goes on where `graph` ends. */
  static continuing(graph: Graph): Builder {
    const builder = new Builder(graph.mesh, namesOf(graph));
    builder.params.push(...graph.params);
    builder.nodes.push(...graph.nodes);
    return builder;
  }

  /** `wish`, or `wish.1`, `wish.2` ... if it is taken. */
  unique(wish: string): string {
    let name = wish;
    for (let suffix = 1; this.#names.has(name); suffix++) name = `${wish}.${suffix}`;
    this.#names.add(name);
    return name;
  }

  /** Gives a value that this builder made another name, exactly `name`; a value from elsewhere keeps its own. */
  rename(value: Value, name: string): void {
    if (!this.#made.has(value)) return;
    this.#names.delete(value.name);
    this.#names.add(name);
    (value as { name: string }).name = name;
  }

  param(role: Role, name: string, type: TensorType, init = ""): Value {
    const value = { name: this.unique(name), type };
    this.params.push({ role, value, init });
    return value;
  }

  /** Appends a node: fills in attributes, infers types and layouts, names the results. */
  add(
    record: OpDefinition,
    operands: readonly Value[],
    given: Partial<Attrs> = {},
    options: NodeOptions = {},
  ): Node {
    const loc = options.loc ?? this.loc;
    const attrs = completeAttrs(record, given);
    const body = options.body ?? null;
    const types = inferTypes(record, operands, attrs, this.mesh, body, loc);
    const wishes = options.name === undefined ? [] : [options.name].flat();
    const base = wishes[0] ?? this.serving;
    const results = types.map((type, index) => {
      const own = index === 0 ? base : `${base}.${record.results[index] ?? index}`;
      const wish = wishes[index] ?? (record.identity ? operands[index].name : own);
      const result = { name: this.unique(wish), type };
      this.#made.add(result);
      return result;
    });
    const node: Node = { op: record.name, operands, attrs, results, body, loc };
    this.nodes.push(node);
    return node;
  }

  region(params: readonly Value[], returns: readonly Value[]): Region {
    return { params, nodes: this.nodes, returns };
  }
}

/** Types of the results of `record` on `operands`: sizes from the record, layouts from its sharding rule. */
export function inferTypes(
  record: OpDefinition,
  operands: readonly Value[],
  attrs: Attrs,
  mesh: Mesh,
  body: Region | null,
  loc: string,
): TensorType[] {
  const types = operands.map((operand) => operand.type);
  const variadic = record.operands.at(-1)?.startsWith("...") ?? false;
  const least = variadic && record.sharding === "body" ? 0 : record.operands.length;
  try {
    if (variadic ? operands.length < least : operands.length !== least) {
      const count = `${least}${variadic ? " or more" : ""} operand${least === 1 ? "" : "s"}`;
      throw new UserError(`takes ${count}, not ${operands.length}`);
    }
    checkRanks(record, types);
    const inferred = record.infer(types, attrs, { mesh, body });
    if (inferred.some((type) => sizesOf(type).some((size) => !(size >= 1)))) {
      throw new UserError(`the result would be ${inferred.map(printType).join(", ")}`, {
        remedy: "Every dimension has one element or more.",
      });
    }
    const rule = ruleOf(record, attrs, types);
    return rule === "moves" || rule === "body" ? inferred : layoutOf(rule, types, inferred);
  } catch (error) {
    if (error instanceof UserError && !error.location && loc) {
      throw new UserError(`${record.name}: ${error.message}`, {
        location: loc,
        ...(error.remedy && { remedy: error.remedy }),
      });
    }
    throw error;
  }
}

/** Operands must have the dimensions that a fixed sharding rule names; ops whose rule depends on them check themselves. */
function checkRanks(record: OpDefinition, types: readonly TensorType[]): void {
  const rule = record.sharding;
  if (typeof rule !== "string" || rule === "moves" || rule === "body") return;
  const wrong = wrongRank(
    rule,
    types.map((type) => type.dims.length),
  );
  if (!wrong) return;
  const type = types[wrong.operand];
  throw new UserError(
    `${record.operands[wrong.operand]} is ${printType(type)}, but needs ${wrong.needs} dimensions, not ${type.dims.length}`,
  );
}

const stack: Builder[] = [];

/** Runs `body` with `builder` open: every op that it calls appends there. */
export function building<T>(builder: Builder, body: () => T): T {
  stack.push(builder);
  try {
    return body();
  } finally {
    stack.pop();
  }
}

/** The open builder. Throws when an op is called outside `building`. */
export function openBuilder(): Builder {
  const builder = stack.at(-1);
  if (!builder)
    throw new Error("an op was called while no builder was open; wrap the calls in building(builder, ...)");
  return builder;
}

/** Appends to the open builder; the call of every op ends here. */
export function append(
  record: OpDefinition,
  operands: readonly Value[],
  attrs: Partial<Attrs>,
  options: NodeOptions = {},
): readonly Value[] {
  return openBuilder().add(record, operands, attrs, options).results;
}
