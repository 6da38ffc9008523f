/**
 * @file Fuses elementwise ops into one generated kernel, so that what they hand each other never goes to memory.
 *
 *     %d.gate = swiglu_grad_gate %gate, %up, %d.y        : bf16[1, 4096, 1536]
 *     %d.up = swiglu_grad_up %gate, %up, %d.y            : bf16[1, 4096, 1536]
 *
 *   becomes
 *
 *     %d.gate, %d.up = fused %gate, %up, %d.y            : bf16[1, 4096, 1536], bf16[1, 4096, 1536] {
 *       ...
 *     }
 *
 * Two rules make a group. *Downwards*: an elementwise node joins the group of its only readers, if they all are in one
 * group and of the same sizes. *Sideways*: neighbours that read the same operands become one kernel with several results.
 * Neither can make a cycle: the first moves a node down to its readers, the second joins nodes that stand side by side.
 * Inside a kernel everything is f32, so a rounding to bf16 between two fused ops falls away. Scalars are left alone.
 */
import { Builder } from "../ir/build.ts";
import { consumers, escaping, type Node, type Value } from "../ir/graph.ts";
import { recordOf } from "../ir/ops/index.ts";
import { type Mesh, printType } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const fuse = definePass({
  name: "fuse",
  summary: "makes one kernel of chains and neighbours of elementwise ops",
  numerics: "reordered",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    const nodes = fuseNodes(graph.nodes, escaping(graph), graph.mesh);
    return nodes === graph.nodes ? graph : { ...graph, nodes };
  },
});

/** `nodes` with kernels in place of groups; `exits` are read from outside. */
function fuseNodes(given: readonly Node[], exits: readonly Value[], mesh: Mesh): readonly Node[] {
  const nodes = sameOrNew(
    given,
    given.map((node) => fuseBody(node, mesh)),
  );
  const kept = new Set(exits);
  const users = consumers(nodes);
  const groups = joinNeighbours(nodes, joinReaders(nodes, users, kept));
  const members = new Map<number, Node[]>();
  for (const node of nodes) {
    const group = groups.get(node);
    if (group !== undefined) members.set(group, [...(members.get(group) ?? []), node]);
  }
  if (![...members.values()].some((own) => own.length > 1)) return nodes;
  return nodes.flatMap((node): Node[] => {
    const own = members.get(groups.get(node) ?? -1);
    if (!own || own.length === 1) return [node];
    // The kernel stands where the last of its nodes stood: every operand is there by then.
    return node === own[own.length - 1] ? [kernelOf(own, users, kept, mesh)] : [];
  });
}

function sameOrNew(before: readonly Node[], after: readonly Node[]): readonly Node[] {
  return after.every((node, i) => node === before[i]) ? before : after;
}

function fuseBody(node: Node, mesh: Mesh): Node {
  if (!node.body || node.op === "fused") return node;
  const nodes = fuseNodes(node.body.nodes, node.body.returns, mesh);
  return nodes === node.body.nodes ? node : { ...node, body: { ...node.body, nodes } };
}

function fusible(node: Node): boolean {
  return (
    recordOf(node.op).elementwise === true &&
    node.results[0].type.dims.length > 0 &&
    node.results[0].type.memory === "device"
  );
}

const shapeOf = (node: Node): string => printType({ ...node.results[0].type, dtype: "f32" });

/** The group of each fusible node, numbered by its last node, after the rule "downwards". */
function joinReaders(
  nodes: readonly Node[],
  users: ReadonlyMap<Value, readonly Node[]>,
  kept: ReadonlySet<Value>,
): Map<Node, number> {
  const groups = new Map<Node, number>();
  for (let at = nodes.length - 1; at >= 0; at--) {
    const node = nodes[at];
    if (!fusible(node)) continue;
    groups.set(node, at);
    const readers = users.get(node.results[0]) ?? [];
    const targets = new Set(readers.map((reader) => groups.get(reader)));
    const [target] = targets;
    const one = targets.size === 1 && target !== undefined && !kept.has(node.results[0]);
    if (one && readers.every((reader) => shapeOf(reader) === shapeOf(node))) groups.set(node, target);
  }
  return groups;
}

/**
 * Joins a node to the group of the one right before it where one of the two reads only what the other reads too. That
 * group must end there: one that waits for a later node would take this one with it, past its readers.
 */
function joinNeighbours(nodes: readonly Node[], groups: Map<Node, number>): Map<Node, number> {
  const sizes = new Map<number, number>();
  for (const group of groups.values()) sizes.set(group, (sizes.get(group) ?? 0) + 1);
  for (let at = 1; at < nodes.length; at++) {
    const [before, node] = [nodes[at - 1], nodes[at]];
    const [first, second] = [groups.get(before), groups.get(node)];
    if (first === undefined || second === undefined || first >= at) continue;
    const within = (a: Node, b: Node) => a.operands.every((operand) => b.operands.includes(operand));
    const alike = sizes.get(second) === 1 && shapeOf(before) === shapeOf(node);
    if (alike && (within(node, before) || within(before, node))) groups.set(node, first);
  }
  return groups;
}

/** One fused node that does what `nodes` do. Results that nobody outside reads disappear. */
function kernelOf(
  nodes: readonly Node[],
  users: ReadonlyMap<Value, readonly Node[]>,
  kept: ReadonlySet<Value>,
  mesh: Mesh,
): Node {
  const inside = new Set(nodes);
  const made = new Set(nodes.map((node) => node.results[0]));
  const operands = [...new Set(nodes.flatMap((node) => node.operands))].filter(
    (operand) => !made.has(operand),
  );
  const returns = nodes
    .map((node) => node.results[0])
    .filter((result) => kept.has(result) || (users.get(result) ?? []).some((reader) => !inside.has(reader)));
  const inner = new Builder(mesh);
  inner.nodes.push(...nodes);
  const { loc } = nodes[nodes.length - 1];
  return { op: "fused", operands, attrs: {}, results: returns, body: inner.region(operands, returns), loc };
}
