/** @file Says what is wrong with a graph, property by property. A property is a named predicate with a one-line meaning. */
import { inferTypes } from "./build.ts";
import { UserError } from "./error.ts";
import type { Graph, Node, Region, Value } from "./graph.ts";
import { layoutComplaints } from "./layout.ts";
import { ruleOf } from "./op.ts";
import { isKnownOp, recordOf } from "./ops/index.ts";
import { lastPart, tileAttrs } from "./tiles.ts";
import { degreeOf, type Mesh, printType, sameType, type TensorType } from "./type.ts";

/** One thing that is wrong: at which value, and from which line of the model. */
export interface Complaint {
  readonly property: PropertyName;
  readonly value: string;
  readonly loc: string;
  readonly message: string;
}

type Check = (graph: Graph, complain: (value: string, loc: string, message: string) => void) => void;

interface Property {
  readonly meaning: string;
  readonly check: Check;
}

/** The properties that passes require and establish; `typed` holds always. */
export const properties = {
  typed: {
    meaning: "names are unique, values are defined before use, and every type is what the op's record infers",
    check: checkTyped,
  },
  "laid-out": {
    meaning: "every op can run on each rank's share of its operands",
    check: checkLayouts,
  },
  flat: {
    meaning: "no layers are rolled up: there is no repeat over parameters",
    check: (graph, complain) => {
      for (const node of graph.nodes) {
        const rolled =
          node.op === "repeat" &&
          graph.params.some(
            (p) => p.role === "param" && node.operands.includes(p.value) && p.value.type.times !== null,
          );
        if (rolled) complain(node.results[0]?.name ?? "", node.loc, "repeat over layers is still rolled up");
      }
    },
  },
  differentiated: {
    meaning: "the gradient of every parameter is an output",
    check: (graph, complain) => {
      const names = new Set(graph.outputs.map((output) => output.name));
      const updated = new Set(graph.updates.map((update) => update.param));
      for (const { role, value } of graph.params) {
        if (role === "param" && !names.has(`d.${value.name}`) && !updated.has(value))
          complain(value.name, "", "there is no gradient");
      }
    },
  },
  updated: {
    meaning: "every parameter has an update",
    check: (graph, complain) => {
      const updated = new Set(graph.updates.map((update) => update.param));
      for (const { role, value } of graph.params) {
        if (role !== "input" && !updated.has(value)) complain(value.name, "", "there is no update");
      }
    },
  },
} as const satisfies Record<string, Property>;

export type PropertyName = keyof typeof properties;

/** Everything that contradicts the given properties, the most basic first. */
export function verify(graph: Graph, names: readonly PropertyName[] = ["typed"]): Complaint[] {
  const complaints: Complaint[] = [];
  for (const property of names) {
    const check: Check = properties[property].check;
    check(graph, (value, loc, message) => complaints.push({ property, value, loc, message }));
  }
  return complaints;
}

/** A complaint as a person reads it: `llama.ts:35: %a: attention needs dimension s whole, ...`. */
export function printComplaint({ loc, value, message }: Complaint): string {
  return `${loc === "" ? "" : `${loc}: `}${value === "" ? "" : `%${value}: `}${message}`;
}

function checkTyped(graph: Graph, complain: Parameters<Check>[1]): void {
  const scope = new Map<string, Value>();
  for (const { value } of graph.params) {
    define(scope, value, "", complain);
    checkLayout(value, "", graph.mesh, complain);
  }
  checkNodes(graph.nodes, scope, graph.mesh, complain);
  for (const value of [...graph.outputs, ...graph.updates].map((exit) => exit.value))
    use(scope, value, "", complain);
  for (const { param, value } of graph.updates) {
    if (graph.outputs.some((output) => output.value === param))
      complain(param.name, "", "is returned, but it is updated: return its new value");
    if (!sameType(param.type, value.type)) {
      complain(
        param.name,
        "",
        `is ${printType(param.type)} but its update %${value.name} is ${printType(value.type)}`,
      );
    }
  }
}

function define(scope: Map<string, Value>, value: Value, loc: string, complain: Parameters<Check>[1]): void {
  if (scope.has(value.name)) complain(value.name, loc, "is defined twice");
  scope.set(value.name, value);
}

function use(
  scope: ReadonlyMap<string, Value>,
  value: Value,
  loc: string,
  complain: Parameters<Check>[1],
): void {
  const known = scope.get(value.name);
  if (!known) complain(value.name, loc, "is used before it is defined");
  else if (known !== value) complain(value.name, loc, "is used, but another value has that name here");
}

function checkNodes(
  nodes: readonly Node[],
  scope: Map<string, Value>,
  mesh: Mesh,
  complain: Parameters<Check>[1],
): void {
  for (const node of nodes) {
    const at = node.results[0]?.name ?? node.op;
    for (const operand of node.operands) use(scope, operand, node.loc, complain);
    if (!isKnownOp(node.op)) {
      complain(at, node.loc, `there is no op "${node.op}"`);
      continue;
    }
    if (node.op !== "repeat" && node.operands.some((operand) => operand.type.times !== null)) {
      complain(at, node.loc, "a family of tensors goes into repeat only");
    }
    if (node.body) checkRegion(node.body, mesh, complain);
    checkTypes(node, mesh, complain);
    checkMemory(node, complain);
    for (const result of node.results) {
      define(scope, result, node.loc, complain);
      checkLayout(result, node.loc, mesh, complain);
    }
  }
}

function checkRegion(region: Region, mesh: Mesh, complain: Parameters<Check>[1]): void {
  const scope = new Map<string, Value>();
  for (const param of region.params) {
    define(scope, param, "", complain);
    checkLayout(param, "", mesh, complain);
  }
  checkNodes(region.nodes, scope, mesh, complain);
  for (const value of region.returns) use(scope, value, "", complain);
}

function checkTypes(node: Node, mesh: Mesh, complain: Parameters<Check>[1]): void {
  const at = node.results[0]?.name ?? node.op;
  let types: TensorType[];
  try {
    types = inferTypes(recordOf(node.op), node.operands, node.attrs, mesh, node.body, "");
    if (node.op === "tile" && tileAttrs(node).rest > 0) checkRegion(lastPart(node, mesh), mesh, complain);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    complain(at, node.loc, `${node.op}: ${error.message}`);
    return;
  }
  if (types.length !== node.results.length) {
    complain(at, node.loc, `${node.op} has ${types.length} results, not ${node.results.length}`);
    return;
  }
  node.results.forEach((result, i) => {
    if (!sameType(result.type, types[i])) {
      complain(
        result.name,
        node.loc,
        `is ${printType(result.type)}, but ${node.op} gives ${printType(types[i])}`,
      );
    }
  });
}

const isInFile = ({ type }: Value): boolean => type.memory === "file";

/** Copies go from one memory to the other; what computes has its operands where its results are. */
function checkMemory({ op, operands, results, loc }: Node, complain: Parameters<Check>[1]): void {
  const record = recordOf(op);
  const inFile = op === "spill" || op === "fetch" ? null : [...operands, ...results].find(isInFile);
  if (inFile)
    complain(results[0].name, loc, `${op}: %${inFile.name} is in a file, which only spill and fetch touch`);
  if (record.sharding === "moves" || record.sharding === "body") return;
  const isOnDevice = results.some(({ type }) => type.memory === "device");
  operands.forEach(({ name, type }, i) => {
    if (isOnDevice && type.memory === "host") {
      const operand = (record.operands[i] ?? record.operands.at(-1) ?? "").replace("...", "");
      complain(results[0].name, loc, `${op}: ${operand} is in host memory, and %${name} was not reloaded`);
    }
  });
}

/** A layout that the mesh can't have: unknown axes, one used twice, shares of unequal size. */
function checkLayout({ name, type }: Value, loc: string, mesh: Mesh, complain: Parameters<Check>[1]): void {
  const used = [...type.dims.flatMap((dim) => dim.axes), ...type.partial];
  for (const axis of new Set(used)) {
    if (!mesh.has(axis)) complain(name, loc, `the mesh has no axis "${axis}"`);
    if (used.indexOf(axis) !== used.lastIndexOf(axis)) complain(name, loc, `uses axis "${axis}" twice`);
  }
  for (const dim of type.dims) {
    const degree = degreeOf(dim, mesh);
    if (dim.size % degree !== 0) {
      complain(
        name,
        loc,
        `${dim.size} can't be shared evenly by the ${degree} ranks of ${dim.axes.join(", ")}`,
      );
    }
  }
}

/** Ops on which a sum may be taken before or after: they pass a partial sum on, where all operands are partial alike. */
const LINEAR = new Set([
  "add",
  "sub",
  "neg",
  "scale",
  "cast",
  "split_heads",
  "merge_heads",
  "transpose",
  "sum",
  "broadcast",
  "slice",
  "pad",
  "concat",
]);

function checkLayouts(graph: Graph, complain: Parameters<Check>[1]): void {
  const visit = (nodes: readonly Node[]): void => {
    for (const node of nodes) {
      const record = recordOf(node.op);
      if (node.body) visit(node.body.nodes);
      const types = node.operands.map((operand) => operand.type);
      const rule = ruleOf(record, node.attrs, types);
      if (rule === "moves" || rule === "body") continue;
      const nameOf = (index: number) =>
        record.operands[Math.min(index, record.operands.length - 1)].replace("...", "");
      for (const { operand, message } of layoutComplaints(rule, types)) {
        complain(node.results[0].name, node.loc, `${node.op}: ${nameOf(operand)} ${message}`);
      }
      const partial = types.findIndex((type) => type.partial.length > 0);
      const alike = new Set(types.map((type) => [...type.partial].sort().join())).size === 1;
      if (partial >= 0 && !(LINEAR.has(node.op) && alike)) {
        const axes = types[partial].partial.join(", ");
        const others = LINEAR.has(node.op) ? ", unlike another operand" : "";
        complain(
          node.results[0].name,
          node.loc,
          `${node.op}: ${nameOf(partial)} is still to be summed over ${axes}${others}`,
        );
      }
    }
  };
  visit(graph.nodes);
}
