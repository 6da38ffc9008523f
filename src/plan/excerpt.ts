/**
 * @file One layer or module of a graph, as a graph: its nodes with the values they take and give. What belongs to what is
 * read off the text alone: names of values (`%L3.x`, `%d.L3.x`), of parameters, and lines of the model.
 *
 * Where layers are rolled up in a `repeat`, or forward and backward in a loop over micro batches, the part is one of that
 * body. A module is the nodes that read its parameters, what lies between them on the way of the data within one layer or
 * serves them alone, and the gradients of these lines.
 */
import { UserError } from "../ir/error.ts";
import { allNodes, consumers, type Graph, type Node, type Param, type Value } from "../ir/graph.ts";
import { layerOf } from "./anatomy.ts";

export interface Wanted {
  /** The number of a layer. */
  readonly layer?: number;
  /** A path such as `mlp` or `model.layers.3.mlp`, or lines such as `llama.ts:90` or `llama.ts:90-104`. */
  readonly module?: string;
}

/** A graph, or a body of one, with the names that its parameters, and casts of them, have outside of all bodies. */
interface Scope extends Graph {
  readonly outside: ReadonlyMap<Value, string>;
  /** What the numbers of a family's members, of which it is the body, are below; null for any other scope. */
  readonly members: number | null;
  /** The number of the layer of which it is a body, by the name of what it gives; null for any other scope. */
  readonly layer: number | null;
  /** The layers that its weights are of, such as `layers.3`. */
  readonly layers: ReadonlySet<string>;
}

/** The part of `graph` that is wanted. Throws a UserError that says what there is, where there is no such part. */
export function excerpt(graph: Graph, wanted: Wanted): Graph {
  const { layer, module } = wanted;
  const scopes = scopesOf({
    ...graph,
    outside: new Map(graph.params.map(({ value }) => [value, value.name])),
    members: null,
    layer: null,
    layers: layersOf(graph.params),
  });
  const found = scopes
    .map((scope) => {
      const nodes = nodesOf(scope, layer, module);
      return { scope, nodes, count: allNodes([...nodes]).length };
    })
    .reduce((most, own) => (own.count > most.count ? own : most));
  if (found.nodes.size === 0) throw notFound(graph, scopes, wanted);
  return graphOf(found.scope, found.nodes);
}

/** The scope and those of its loops and layers, in order. Tiles and fused ops are nodes as any other. */
function scopesOf(given: Scope): Scope[] {
  const outside = new Map(given.outside);
  for (const { op, operands, results } of given.nodes) {
    const weight = op === "cast" ? outside.get(operands[0]) : undefined;
    if (weight !== undefined) outside.set(results[0], weight);
  }
  const scope = { ...given, outside };
  const inner = scope.nodes.flatMap((node) =>
    node.op === "repeat" || node.op === "checkpoint" ? scopesOf(bodyOf(scope, node)) : [],
  );
  return [scope, ...inner];
}

/** A body as a graph of its own: what it is given keeps the role it has outside. */
function bodyOf(scope: Scope, { op, operands, results, attrs, body }: Node): Scope {
  if (!body) throw new Error(`${op} has no body`);
  const given = new Map(scope.params.map((param) => [param.value, param]));
  const isLayer = operands.some((operand) => operand.type.times !== null && isWeight(given.get(operand)));
  return {
    name: scope.name,
    mesh: scope.mesh,
    params: body.params.map((value, i) => {
      const { role = "input", init = "" } = given.get(operands[i]) ?? {};
      return { role, value, init };
    }),
    nodes: body.nodes,
    outputs: body.returns.map((value, i) => ({ name: results[i].name, value })),
    updates: [],
    outside: new Map(
      body.params.flatMap((value, i) => {
        const name = scope.outside.get(operands[i]);
        return name === undefined ? [] : [[value, name]];
      }),
    ),
    members: op === "repeat" && isLayer ? (attrs.times as number) : scope.members,
    layer: scope.layer ?? layerIn(results[0]?.name ?? ""),
    layers: layersOf(scope.params),
  };
}

const layersOf = (params: readonly Param[]): Set<string> =>
  new Set(params.map(({ value }) => layerOf(value.name)).filter((layer) => /\.\d+$/.test(layer)));

const isWeight = (param: Param | undefined): boolean => param !== undefined && param.role !== "input";

function nodesOf(scope: Scope, layer: number | undefined, module: string | undefined): Set<Node> {
  const ofLayer =
    layer === undefined ? scope.nodes : scope.nodes.filter((node) => isOfLayer(scope, node, layer));
  if (module === undefined) return new Set(ofLayer.filter(({ op }) => op !== "repeat"));
  const nodes = ofLayer.filter(({ op }) => op !== "repeat" && op !== "checkpoint");
  const lines = /^(.+\.\w+):(\d+)(?:-(\d+))?$/.exec(module);
  if (lines) {
    const [, file, first, last = first] = lines;
    return new Set(
      nodes.filter((node) => linesOf(node).some((loc) => isWithin(loc, file, Number(first), Number(last)))),
    );
  }
  return moduleOf(scope, nodes, module);
}

/** After `unroll` a layer is known by its number in names; before, it is all of the body that stands for it. */
function isOfLayer({ layers, members, layer: own }: Scope, { results }: Node, layer: number): boolean {
  if (members !== null) return layer < members;
  if (own !== null) return layer === own;
  // What makes gradients of a layer's weights may give the gradient of what the layer before it gave as well.
  const numbers = results.flatMap(({ name }) => (layers.has(layerOf(name)) ? (numberOf(name) ?? []) : []));
  return numbers.length > 0 ? numbers.includes(layer) : results.some(({ name }) => layerIn(name) === layer);
}

/** The number in `L3.x` and `d.L3.x`; null in other names. */
function layerIn(name: string): number | null {
  const number = /(?:^|\.)L(\d+)\./.exec(name)?.[1];
  return number === undefined ? null : Number(number);
}

/** Its line, and those of what it holds. */
function linesOf({ loc, body }: Node): string[] {
  return [loc, ...(body ? allNodes(body.nodes).map((node) => node.loc) : [])];
}

function isWithin(loc: string, file: string, first: number, last: number): boolean {
  const [, own, line] = /^(.*):(\d+)$/.exec(loc) ?? [];
  return (
    own !== undefined &&
    (own === file || own.endsWith(`/${file}`)) &&
    first <= Number(line) &&
    Number(line) <= last
  );
}

const isGradient = ({ results }: Node): boolean => results.every(({ name }) => name.startsWith("d."));

/** The number of the layer that a parameter is of; null where it is of none, or of all that a body stands for. */
function numberOf(parameter: string): number | null {
  const number = /\.(\d+)$/.exec(layerOf(parameter))?.[1];
  return number === undefined ? null : Number(number);
}

function moduleOf(scope: Scope, nodes: readonly Node[], path: string): Set<Node> {
  const forward = nodes.filter((node) => node.loc !== "" && !isGradient(node));
  /** Those of one layer belong together: what lies between two layers' modules is in neither. */
  const seeds = new Map<number | null, Set<Node>>();
  for (const node of forward) {
    for (const operand of node.operands) {
      const name = scope.outside.get(operand);
      if (name === undefined || !isBelow(name, path)) continue;
      const layer = numberOf(name);
      seeds.set(layer, (seeds.get(layer) ?? new Set()).add(node));
    }
  }
  const wanted = new Set<Node>();
  for (const [layer, own] of seeds) {
    const found = between(forward, own);
    const lines = new Set([...found].map(({ loc }) => loc));
    const readers = consumers(scope.nodes);
    for (const node of forward.toReversed()) {
      const all = node.results.flatMap((result) => readers.get(result) ?? []);
      // What nobody else reads serves them: an exchange of what attention is given.
      if (lines.has(node.loc) && all.length > 0 && all.every((reader) => found.has(reader))) found.add(node);
    }
    for (const node of nodes) {
      const isOwnGradient = isGradient(node) && lines.has(node.loc);
      if (found.has(node) || (isOwnGradient && (layer === null || isOfLayer(scope, node, layer))))
        wanted.add(node);
    }
  }
  return wanted;
}

/** Whether a parameter's name goes through `path`; `*` stands for any number. */
function isBelow(name: string, path: string): boolean {
  const [words, wanted] = [name.split("."), path.split(".")];
  const isSame = (a: string | undefined, b: string) =>
    a === b || (a === "*" && /^\d+$/.test(b)) || (b === "*" && /^\d+$/.test(a ?? ""));
  return words.some((_, at) => wanted.every((word, i) => isSame(words[at + i], word)));
}

/** `seeds`, and nodes that need one of them and that one of them needs. */
function between(nodes: readonly Node[], seeds: ReadonlySet<Node>): Set<Node> {
  const [behind, before] = [new Set<Value>(), new Set<Value>()];
  const isBehind = new Set<Node>();
  for (const node of nodes) {
    if (!seeds.has(node) && !node.operands.some((operand) => behind.has(operand))) continue;
    isBehind.add(node);
    for (const result of node.results) behind.add(result);
  }
  const found = new Set<Node>();
  for (const node of nodes.toReversed()) {
    if (!seeds.has(node) && !node.results.some((result) => before.has(result))) continue;
    if (isBehind.has(node)) found.add(node);
    for (const operand of node.operands) before.add(operand);
  }
  return found;
}

/** The nodes with what they take as parameters, and what others read of them, or nobody does, as outputs. */
function graphOf(scope: Scope, wanted: ReadonlySet<Node>): Graph {
  const nodes = scope.nodes.filter((node) => wanted.has(node));
  const made = new Set(nodes.flatMap(({ results }) => results));
  const given = new Map(scope.params.map((param) => [param.value, param]));
  const updates = scope.updates.filter(({ value }) => made.has(value));
  const taken = new Set([
    ...nodes.flatMap(({ operands }) => operands).filter((operand) => !made.has(operand)),
    ...updates.map(({ param }) => param),
  ]);
  const readInside = new Set(nodes.flatMap(({ operands }) => operands));
  const readOutside = new Set(
    scope.nodes.filter((node) => !wanted.has(node)).flatMap(({ operands }) => operands),
  );
  const outputs = scope.outputs.filter(({ value }) => made.has(value));
  const named = new Set([...outputs, ...updates].map(({ value }) => value));
  const others = [...made].filter(
    (value) => !named.has(value) && (readOutside.has(value) || !readInside.has(value)),
  );
  return {
    name: scope.name,
    mesh: scope.mesh,
    params: [
      ...scope.params.filter(({ value }) => taken.has(value)),
      ...[...taken]
        .filter((value) => !given.has(value))
        .map((value): Param => ({ role: "input", value, init: "" })),
    ],
    nodes,
    outputs: [...outputs, ...others.map((value) => ({ name: value.name, value }))],
    updates,
  };
}

function notFound(graph: Graph, scopes: readonly Scope[], { layer, module }: Wanted): UserError {
  const weights = [...new Set(scopes.flatMap(({ outside }) => [...outside.values()]))];
  if (layer !== undefined && module === undefined) {
    const most = Math.max(
      ...scopes.map(({ members }) => (members ?? 0) - 1),
      ...weights.map((name) => numberOf(name) ?? -1),
    );
    return new UserError(`there is no layer ${layer} in ${graph.name}`, {
      location: "--layer",
      remedy: most < 0 ? "Nothing in it is a layer by its name." : `Its layers are 0 to ${most}.`,
    });
  }
  const paths = [
    ...new Set(weights.map((name) => name.split(".").slice(0, -1).join(".")).filter((path) => path !== "")),
  ];
  const shown = paths.slice(0, 12).join(", ");
  return new UserError(
    `there is no module ${module} in ${layer === undefined ? graph.name : `layer ${layer}`}`,
    {
      location: "--module",
      remedy: `A module is a path of parameters, or lines such as llama.ts:90-104. Paths are ${shown}${paths.length > 12 ? " ..." : ""}.`,
    },
  );
}
