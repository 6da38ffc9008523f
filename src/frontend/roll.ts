/** @file Writes the finished graph: loops of equal iterations become `repeat`, every value gets its name. */
import type { Graph, Node, Output, Param, Region, Value } from "../ir/graph.ts";
import { completeAttrs } from "../ir/op.ts";
import { recordOf } from "../ir/ops/index.ts";
import { memberOf } from "../ir/type.ts";
import { type Fold, familyName, findFolds, type Slot } from "./fold.ts";
import type { Trace } from "./trace.ts";

/** The graph of what `trace` saw, layers rolled up. */
export function roll(
  name: string,
  params: readonly Param[],
  outputs: readonly Output[],
  trace: Trace,
): Graph {
  const { nodes, mesh } = trace.builder;
  const folds = findFolds({ params, nodes, outputs }, trace.loops);
  const writer = new Writer(nodes, folds, trace);
  return {
    name,
    mesh,
    params: writer.params(params),
    nodes: writer.nodes(),
    outputs: outputs.map((output) => ({ name: output.name, value: writer.valueOf(output.value) })),
    updates: [],
  };
}

/** Names of one scope: a wish, or the wish with a number. */
class Names {
  readonly #taken = new Set<string>();

  unique(wish: string): string {
    let name = wish;
    for (let suffix = 1; this.#taken.has(name); suffix++) name = `${wish}.${suffix}`;
    this.#taken.add(name);
    return name;
  }
}

/** A scope being written: what its values stand for. */
interface Room {
  readonly names: Names;
  readonly values: Map<Value, Value>;
}

/** Builds the graph anew with its final values. Types don't change, so nothing is inferred again. */
class Writer {
  readonly #nodes: readonly Node[];
  readonly #folds: readonly Fold[];
  readonly #trace: Trace;
  readonly #room: Room = { names: new Names(), values: new Map() };

  constructor(nodes: readonly Node[], folds: readonly Fold[], trace: Trace) {
    this.#nodes = nodes;
    this.#folds = folds;
    this.#trace = trace;
  }

  /** The parameters, a family in the place of its first member. */
  params(params: readonly Param[]): Param[] {
    const families = new Map(
      this.#folds.flatMap((fold) =>
        [...fold.families.values()].flatMap((members) => members.map((member) => [member, members] as const)),
      ),
    );
    return params.flatMap((param): Param[] => {
      const members = families.get(param.value);
      if (members && members[0] !== param.value) return [];
      const value: Value = {
        name: this.#room.names.unique(members ? familyName(members) : param.value.name),
        type: members ? { ...param.value.type, times: members.length } : param.value.type,
      };
      for (const member of members ?? [param.value]) this.#room.values.set(member, value);
      return [{ ...param, value }];
    });
  }

  nodes(): Node[] {
    const written: Node[] = [];
    for (let at = 0; at < this.#nodes.length; at++) {
      const fold = this.#folds.find((candidate) => candidate.start === at);
      written.push(fold ? this.#repeat(fold) : this.#copy(this.#nodes[at], this.#room));
      if (fold) at = fold.end - 1;
    }
    return written;
  }

  valueOf(value: Value, room: Room = this.#room): Value {
    const known = room.values.get(value);
    if (!known) throw new Error(`%${value.name} is used before it is made`);
    return known;
  }

  /** The node with its final operands, or the given ones, and results. */
  #copy(
    node: Node,
    room: Room,
    operands = node.operands.map((operand) => this.valueOf(operand, room)),
  ): Node {
    const record = recordOf(node.op);
    const first = this.#trace.wishOf(node.results[0]) ?? node.op;
    const results = node.results.map((result, i): Value => {
      const wish = i === 0 ? first : (this.#trace.wishOf(result) ?? `${first}.${record.results[i]}`);
      const value = { name: room.names.unique(wish), type: result.type };
      room.values.set(result, value);
      return value;
    });
    return { ...node, operands, results };
  }

  #repeat(fold: Fold): Node {
    const made = ({ node, result }: Slot, iteration: number): Value =>
      this.#nodes[fold.start + iteration * fold.length + node].results[result];
    const given = [...fold.families.keys(), ...fold.outer];
    const body = this.#body(fold, given, (slot) => made(slot, 0));
    const results = fold.carried.map(({ slot }): Value => {
      const last = made(slot, fold.times - 1);
      const wish = this.#trace.wishOf(last) ?? "carried";
      const value = { name: this.#room.names.unique(wish), type: last.type };
      this.#room.values.set(last, value);
      return value;
    });
    const record = recordOf("repeat");
    return {
      op: record.name,
      operands: [...fold.carried.map(({ first }) => first), ...given].map((value) => this.valueOf(value)),
      attrs: completeAttrs(record, { times: fold.times, carry: fold.carried.length }),
      results,
      body,
      loc: fold.loc,
    };
  }

  /** The first iteration as a region; `made` gives what it made at a place. */
  #body(fold: Fold, given: readonly Value[], made: (slot: Slot) => Value): Region {
    const room: Room = { names: new Names(), values: new Map() };
    // By what the second iteration takes from the first: there a carried value can't be mistaken for another.
    const carried = new Map(
      fold.carried.map(({ slot, first }): [Value, Value] => {
        const wish = this.#trace.wishOf(made(slot)) ?? "carried";
        return [made(slot), { name: room.names.unique(wish), type: first.type }];
      }),
    );
    const params = given.map((value) => {
      // Inside there is one layer: `model.layers.*.mlp.up_proj.weight` is `mlp.up_proj.weight`.
      const { name } = this.valueOf(value);
      const short = fold.families.has(value) ? (name.split("*.").at(-1) ?? name) : name;
      const param = { name: room.names.unique(short), type: memberOf(value.type) };
      room.values.set(value, param);
      return param;
    });
    const nodes = this.#nodes.slice(fold.start, fold.start + fold.length).map((node, at) => {
      const next = this.#nodes[fold.start + fold.length + at];
      const operands = node.operands.map(
        (operand, i) => carried.get(next.operands[i]) ?? this.valueOf(operand, room),
      );
      return this.#copy(node, room, operands);
    });
    return {
      params: [...carried.values(), ...params],
      nodes,
      returns: fold.carried.map(({ slot }) => this.valueOf(made(slot), room)),
    };
  }
}
