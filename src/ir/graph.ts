/** @file What a program is: values, nodes, regions and the graph. Plain readonly data; passes build new ones. */
import type { Mesh, TensorType } from "./type.ts";

/** The result of a node or a parameter of a region. Names are unique in their graph or region body. */
export interface Value {
  readonly name: string;
  readonly type: TensorType;
}

export type AttrValue = number | boolean | string | readonly number[];
export type Attrs = Readonly<Record<string, AttrValue>>;

/** One use of an op. `loc` is `file:line` of the user's model, or "" where there is none. */
export interface Node {
  readonly op: string;
  readonly operands: readonly Value[];
  readonly attrs: Attrs;
  readonly results: readonly Value[];
  /** The body of `repeat`, `tile` and `fused`; null for every other op. */
  readonly body: Region | null;
  readonly loc: string;
}

/** A closed piece of program: it uses only its own parameters and nodes. */
export interface Region {
  readonly params: readonly Value[];
  readonly nodes: readonly Node[];
  readonly returns: readonly Value[];
}

/** input: given each step. param: a weight. state: kept from step to step, begins at zero. */
export type Role = "input" | "param" | "state";

export interface Param {
  readonly role: Role;
  readonly value: Value;
  /** How a weight begins when no file gives it: `zeros`, `ones` or `normal STD`; "" for inputs and states. */
  readonly init: string;
}

/** A named result of the program, such as `loss`. */
export interface Output {
  readonly name: string;
  readonly value: Value;
}

/** At the end of the step, `param` (a weight or a state) becomes `value`. */
export interface Update {
  readonly param: Value;
  readonly value: Value;
}

/** A program: ordered SSA nodes over a mesh. */
export interface Graph {
  readonly name: string;
  readonly mesh: Mesh;
  readonly params: readonly Param[];
  readonly nodes: readonly Node[];
  readonly outputs: readonly Output[];
  readonly updates: readonly Update[];
}

/** Which node makes each value. Parameters are absent. */
export function producers(nodes: readonly Node[]): Map<Value, Node> {
  const map = new Map<Value, Node>();
  for (const node of nodes) for (const result of node.results) map.set(result, node);
  return map;
}

/** The nodes that read each value, in order. */
export function consumers(nodes: readonly Node[]): Map<Value, Node[]> {
  const map = new Map<Value, Node[]>();
  for (const node of nodes) {
    for (const operand of new Set(node.operands)) {
      const users = map.get(operand);
      if (users) users.push(node);
      else map.set(operand, [node]);
    }
  }
  return map;
}

/** The values that leave a graph: outputs and updates. */
export function escaping(graph: Graph): Value[] {
  return [...graph.outputs.map((output) => output.value), ...graph.updates.map((update) => update.value)];
}

/** `nodes` and all nodes of the bodies inside them. */
export function allNodes(nodes: readonly Node[]): Node[] {
  return nodes.flatMap((node) => [node, ...(node.body ? allNodes(node.body.nodes) : [])]);
}

/** How many nodes there are, those of bodies included. */
export function nodeCount(nodes: readonly Node[]): number {
  return nodes.reduce((count, { body }) => count + 1 + (body ? nodeCount(body.nodes) : 0), 0);
}
