/**
 * @file Orders the nodes of a region so that little memory is alive: what frees memory runs as soon as it can, what only
 * takes memory runs when its reader needs it, everything else keeps its place.
 *
 * A node that reads nothing but parameters and inputs (a weight's cast to bf16, a constant) is *lazy*: it waits for its
 * first reader. A node whose results are small beside what it frees (a gradient's sum of squares, an optimizer
 * update) is *eager*: it runs when its last operand is there. So without clipping each weight is updated in the middle
 * of backward and its gradient is gone before the next is made.
 */
import { Graph as DependencyGraph } from "@dagrejs/graphlib";
import { consumers, type Node, type Update, type Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { localBytes, type Mesh } from "../ir/type.ts";

interface Order {
  readonly nodes: readonly Node[];
  /** Values that leave the region. */
  readonly exits: readonly Value[];
  readonly updates: readonly Update[];
  readonly mesh: Mesh;
}

const idOf = (index: number): string => `n${index}`;

/**
 * Which node must run before which: makers before readers, and every reader of a parameter before the node that
 * overwrites it, where that is possible. Node i is called `n<i>`. The graph may be thousands of nodes deep, so walk it
 * iteratively: graphlib's own algorithms recurse.
 */
export function dependencyGraph({ nodes, updates }: Pick<Order, "nodes" | "updates">): DependencyGraph {
  const graph = new DependencyGraph();
  const maker = new Map<Value, number>();
  nodes.forEach((node, index) => {
    graph.setNode(idOf(index), index);
    for (const result of node.results) maker.set(result, index);
  });
  nodes.forEach((node, index) => {
    for (const operand of new Set(node.operands)) {
      const before = maker.get(operand);
      if (before !== undefined) graph.setEdge(idOf(before), idOf(index));
    }
  });
  const readers = consumers(nodes);
  const indexOf = new Map(nodes.map((node, index) => [node, index]));
  for (const { param, value } of updates) {
    const writer = maker.get(value);
    if (writer === undefined) continue;
    // A reader that needs the new value too can't come first: then the value is made elsewhere and copied at the end.
    for (const reader of readers.get(param) ?? []) {
      const id = idOf(indexOf.get(reader) as number);
      if (!reaches(graph, idOf(writer), id)) graph.setEdge(id, idOf(writer));
    }
  }
  return graph;
}

function reaches(graph: DependencyGraph, from: string, to: string): boolean {
  const seen = new Set<string>();
  const stack = [from];
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    if (at === to) return true;
    if (seen.has(at)) continue;
    seen.add(at);
    stack.push(...(graph.successors(at) ?? []));
  }
  return false;
}

/** The nodes in the order in which they run. */
export function orderNodes(region: Order): Node[] {
  const { nodes } = region;
  const graph = dependencyGraph(region);
  const before = nodes.map((_, index) =>
    (graph.predecessors(idOf(index)) ?? []).map((id) => Number(id.slice(1))),
  );
  const after = nodes.map((_, index) =>
    (graph.successors(idOf(index)) ?? []).map((id) => Number(id.slice(1))),
  );
  const eager = eagerNodes(region);
  const lazy = nodes.map((_, index) => before[index].length === 0 && !eager[index]);
  const done = new Array<boolean>(nodes.length).fill(false);
  const order: Node[] = [];

  /** Done, or at most a few scalars away from what is done. */
  const isReady = (index: number): boolean =>
    done[index] || lazy[index] || (isSmall(nodes[index]) && before[index].every(isReady));
  const run = (index: number): void => {
    const stack = [index];
    while (stack.length > 0) {
      const at = stack.pop() as number;
      if (done[at]) continue;
      const needed = before[at].filter((own) => !done[own]);
      if (needed.length > 0) {
        // What is lazy runs last of them, and not yet where something eager comes in between.
        const busy = needed.filter((own) => !lazy[own]);
        stack.push(at, ...(busy.length > 0 ? busy : needed).reverse());
        continue;
      }
      done[at] = true;
      order.push(nodes[at]);
      for (const next of after[at]) {
        if (eager[next] && !done[next] && before[next].every(isReady)) stack.push(next);
      }
    }
  };
  nodes.forEach((_, index) => {
    if (!lazy[index]) run(index);
  });
  nodes.forEach((_, index) => {
    run(index);
  });
  return order;
}

/** Results of at most this many bytes are made for an eager node wherever it runs. */
const SMALL_BYTES = 64;

function isSmall(node: Node): boolean {
  return node.body === null && node.results.every(({ type }) => localBytes(type, new Map()) <= SMALL_BYTES);
}

/** How much more a node must free than it takes to run ahead of its place. */
const EAGER_RATIO = 8;

/**
 * Nodes whose results are small beside what they help to free. An operand with several readers is counted in equal
 * parts: a gradient is read by its sum of squares and by the optimizer, and is gone when both have run.
 */
function eagerNodes({ nodes, exits, updates, mesh }: Order): boolean[] {
  const uses = new Map<Value, number>();
  for (const node of nodes) {
    for (const operand of new Set(node.operands)) uses.set(operand, (uses.get(operand) ?? 0) + 1);
  }
  for (const exit of exits) uses.set(exit, Number.POSITIVE_INFINITY);
  const made = new Set(nodes.flatMap((node) => node.results));
  // What goes to a state in host memory lies where the state came.
  const inPlace = new Set(updates.map(({ value }) => value));
  for (const node of nodes) {
    if (node.op === "offload" && inPlace.has(node.results[0])) inPlace.add(node.operands[0]);
  }
  const bytes = ({ type }: Value) => localBytes(type, mesh);
  return nodes.map((node) => {
    const operands = [...new Set(node.operands)].filter((operand) => made.has(operand));
    const freed = operands.reduce((total, operand) => total + bytes(operand) / (uses.get(operand) ?? 1), 0);
    // An update lies where its parameter lay, a reduced value where its part lay.
    const { identity, overwrites } = recordOf(node.op);
    const isOver = (result: Value) => inPlace.has(result) || (identity === true && overwrites !== undefined);
    const results = node.results.filter((result) => !isOver(result));
    const taken = results.reduce((total, result) => total + bytes(result), 0);
    return node.body === null && freed > EAGER_RATIO * taken;
  });
}
