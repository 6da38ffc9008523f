/**
 * @file Makes graphs small enough to run in plain arrays: every dimension gets a few elements, consistently.
 *
 * Dimensions that the sharding rules tie by a letter stay equal. Those of which one is a multiple of another, or a part of
 * it (key heads and query heads, slices, the pairs of rope), keep their ratio: they shrink by one factor. A dimension that
 * is made of others (heads * head_dim) becomes the product of what these become, and a tile's part follows from what is
 * cut. Several graphs, such as those before and after a pass, shrink together: parameters of one name stay alike. Every
 * split stays even. Sizes that need not be alike become different where they can, so that a mistaken transpose shows.
 */
import { escaping, type Graph, type Node, type Region, type Value } from "./graph.ts";
import { letters } from "./layout.ts";
import { ruleOf } from "./op.ts";
import { recordOf } from "./ops/index.ts";
import { Sizes, type Unknown } from "./sizes.ts";
import { degreeOf, type Mesh, sizesOf, type TensorType } from "./type.ts";
import { printComplaint, verify } from "./verify.ts";

/** Tiles of a shrunk `tile`: the first and the last. */
const TILES = 2;
/** Rows of tokens are at least so long: a causal mask, a window and two documents then differ. */
const LEAST_TOKENS = 6;

export type Shrunk = { readonly graphs: readonly Graph[] } | { readonly problem: string };

/** The graphs with few elements a dimension; or why that can't be done. What verified before verifies afterwards. */
export function shrink(graphs: readonly Graph[]): Shrunk {
  const shrinker = new Shrinker();
  for (const graph of graphs) shrinker.read(graph);
  shrinker.tie(graphs);
  const problem = shrinker.sizes.solve();
  if (problem !== null) return { problem };
  const small = graphs.map((graph) => shrinker.rebuild(graph));
  for (const graph of small) {
    const [complaint] = verify(graph);
    if (complaint) return { problem: `a graph of small sizes does not verify: ${printComplaint(complaint)}` };
  }
  return { graphs: small };
}

interface Unknowns {
  readonly dims: readonly Unknown[];
  readonly times: Unknown | null;
}

class Shrinker {
  readonly sizes = new Sizes();
  readonly #values = new Map<Value, Unknowns>();
  readonly #times = new Map<Node, Unknown>();

  of(value: Value, mesh: Mesh): Unknowns {
    const known = this.#values.get(value);
    if (known) return known;
    const { dims, times } = value.type;
    const own = {
      dims: dims.map((dim) => this.sizes.unknown(dim.size, degreeOf(dim, mesh))),
      times: times === null ? null : this.sizes.count(times),
    };
    this.#values.set(value, own);
    return own;
  }

  read(graph: Graph): void {
    for (const { role, value } of graph.params) {
      const { dims } = this.of(value, graph.mesh);
      if (role === "input" && dims.length > 1) this.sizes.atLeast(dims[1], LEAST_TOKENS);
    }
    for (const node of graph.nodes) this.#node(node, graph.mesh);
    for (const { param, value } of graph.updates) this.#alike(param, value, graph.mesh);
  }

  /** Parameters of one name are one thing in all graphs. A family that isn't one everywhere keeps its number. */
  tie(graphs: readonly Graph[]): void {
    const seen = new Map<string, { value: Value; mesh: Mesh; count: number }>();
    for (const { params, outputs, mesh } of graphs) {
      const named = [...params.map(({ value }) => [value.name, value] as const)];
      for (const [name, value] of [
        ...named,
        ...outputs.map((out) => [`= ${out.name}`, out.value] as const),
      ]) {
        const first = seen.get(name);
        if (!first) seen.set(name, { value, mesh, count: 1 });
        else {
          this.#alike(first.value, value, mesh);
          first.count += 1;
        }
      }
    }
    // A gradient is as large as what it belongs to.
    for (const { params, outputs, mesh } of graphs) {
      const gradients = new Map(outputs.map(({ name, value }) => [name, value]));
      for (const { value } of params) {
        const gradient = gradients.get(`d.${value.name}`);
        if (gradient) this.#alike(value, gradient, mesh);
      }
    }
    const families = graphs.map(({ params }) => params.filter(({ value }) => value.type.times !== null));
    for (const { value } of families.flat()) {
      // Unrolled elsewhere, its members are as large as it says.
      const { name, type } = value;
      for (let i = 0; i < (type.times ?? 0) && name.includes("*"); i++) {
        const member = seen.get(name.replace("*", String(i)));
        if (member) this.#alike(value, member.value, member.mesh);
      }
      const everywhere = graphs.every(({ params }) =>
        params.some((own) => own.value.name === value.name && own.value.type.times === value.type.times),
      );
      const { times } = this.#values.get(value) as Unknowns;
      if (!everywhere && times) this.sizes.fix(times);
    }
  }

  /** Equal sizes stay equal; others are left to what else is known of them. */
  #alike(a: Value, b: Value, mesh: Mesh): void {
    const [left, right] = [this.of(a, mesh), this.of(b, mesh)];
    if (left.dims.length !== right.dims.length) return;
    left.dims.forEach((dim, d) => {
      this.sizes.tie(dim, right.dims[d]);
    });
    if (left.times && right.times) this.sizes.tie(left.times, right.times);
  }

  #node(node: Node, mesh: Mesh): void {
    const { operands, results, attrs, body } = node;
    for (const value of [...operands, ...results]) this.of(value, mesh);
    if (body) {
      this.#body(node, body, mesh);
      return;
    }
    const record = recordOf(node.op);
    const types = operands.map(({ type }) => type);
    const rule = ruleOf(record, attrs, types);
    if (rule === "moves") {
      results.forEach((result, i) => {
        if (operands[i]) this.#alike(operands[i], result, mesh);
      });
      return;
    }
    this.#letters(node, rule, mesh);
    const tied = (record.ties ?? []).map(
      ([operand, dim]) => this.of(operands[operand], mesh).dims.at(dim) as Unknown,
    );
    for (const other of tied.slice(1)) this.sizes.ratio(tied[0], other);
    const { dim, start } = attrs as { dim?: number; start?: number };
    if (typeof dim === "number" && typeof start === "number")
      this.sizes.anchor(this.of(operands[0], mesh).dims[dim], start);
  }

  /** The same letter is the same size, or keeps its ratio; a group whose letters all stand alone elsewhere is their product. */
  #letters({ operands, results }: Node, rule: string, mesh: Mesh): void {
    const terms = letters(
      rule,
      operands.map(({ type }) => type),
      results.map(({ type }) => type),
    );
    const values = [...operands, ...results];
    const single = new Map<string, Unknown>();
    const groups: { readonly own: Unknown; readonly letters: readonly string[] }[] = [];
    [...terms.operands, ...terms.results].forEach((dims, i) => {
      dims.forEach(({ letters: own }, d) => {
        const unknown = this.of(values[i], mesh).dims[d];
        if (own[0] === "_" || unknown === undefined) return;
        if (own.length > 1) groups.push({ own: unknown, letters: own });
        else if (single.has(own[0])) this.sizes.tie(single.get(own[0]) as Unknown, unknown);
        else single.set(own[0], unknown);
      });
    });
    const first = new Map<string, Unknown>();
    for (const { own, letters: all } of groups) {
      const parts = all.flatMap((letter) => single.get(letter) ?? []);
      const name = all.join("");
      const other = first.get(name);
      if (other !== undefined) this.sizes.tie(other, own);
      else if (parts.length === all.length) this.sizes.product(own, parts);
      else for (const part of parts) this.sizes.ratio(part, own);
      first.set(name, other ?? own);
    }
  }

  #body(node: Node, body: Region, mesh: Mesh): void {
    const { operands, results, attrs } = node;
    for (const value of [...body.params, ...body.returns]) this.of(value, mesh);
    for (const inner of body.nodes) this.#node(inner, mesh);
    const dims = (value: Value) => this.of(value, mesh).dims;
    if (node.op === "tile") {
      const { tiles, rest, split, join } = tileAttrs(attrs);
      const pairs = [
        ...body.params.map((param, i) => [operands[i], param, split[i]] as const),
        ...body.returns.map((value, i) => [results[i], value, join[i]] as const),
      ];
      const cuts = pairs.flatMap(([whole, , cut]) => (cut < 0 ? [] : [dims(whole)[cut]]));
      // What is cut alike is as long: inside, the parts meet.
      for (const own of cuts.slice(1)) this.sizes.tie(cuts[0], own);
      for (const [whole, part, cut] of pairs) {
        dims(whole).forEach((dim, d) => {
          if (d !== cut) this.sizes.tie(dim, dims(part)[d]);
          else this.sizes.part(dim, dims(part)[d], { tiles: Math.min(tiles, TILES), hasRest: rest > 0 });
        });
      }
      return;
    }
    body.params.forEach((param, i) => {
      this.#alike(operands[i], param, mesh);
    });
    body.returns.forEach((value, i) => {
      if (results[i]) this.#alike(value, results[i], mesh);
    });
    if (node.op !== "repeat") return;
    const times = this.sizes.count(attrs.times as number);
    this.#times.set(node, times);
    const families = operands.flatMap((operand) => this.of(operand, mesh).times ?? []);
    for (const own of families) this.sizes.tie(times, own);
    // What nothing ties is a loop without families: it can run as often as it does.
    if (families.length === 0) this.sizes.fix(times);
  }

  rebuild(graph: Graph): Graph {
    const { mesh } = graph;
    const small = new Map<Value, Value>();
    const map = (value: Value): Value => {
      const known = small.get(value);
      if (known) return known;
      const own = { name: value.name, type: this.#type(value, mesh) };
      small.set(value, own);
      return own;
    };
    const region = ({ params, nodes, returns }: Region): Region => ({
      params: params.map(map),
      nodes: nodes.map(node),
      returns: returns.map(map),
    });
    const node = (own: Node): Node => ({
      ...own,
      operands: own.operands.map(map),
      results: own.results.map(map),
      attrs: this.#attrs(own, mesh),
      body: own.body && region(own.body),
    });
    for (const value of escaping(graph)) map(value);
    return {
      ...graph,
      params: graph.params.map((param) => ({ ...param, value: map(param.value) })),
      nodes: graph.nodes.map(node),
      outputs: graph.outputs.map((output) => ({ ...output, value: map(output.value) })),
      updates: graph.updates.map(({ param, value }) => ({ param: map(param), value: map(value) })),
    };
  }

  #sizesOf(value: Value, mesh: Mesh): number[] {
    return this.of(value, mesh).dims.map((dim) => this.sizes.valueOf(dim));
  }

  #type(value: Value, mesh: Mesh): TensorType {
    const sizes = this.#sizesOf(value, mesh);
    const { times } = this.of(value, mesh);
    return {
      ...value.type,
      dims: value.type.dims.map((dim, d) => ({ ...dim, size: sizes[d] })),
      times: times === null ? null : this.sizes.valueOf(times),
    };
  }

  #attrs(node: Node, mesh: Mesh): Node["attrs"] {
    const { op, attrs, operands, results, body } = node;
    if (op === "repeat") return { ...attrs, times: this.sizes.valueOf(this.#times.get(node) as Unknown) };
    if (op === "tile" && body) {
      const { tiles, rest, split } = tileAttrs(attrs);
      const cut = split.findIndex((dim) => dim >= 0);
      if (tiles === 1 || cut < 0) return attrs;
      const whole = this.#sizesOf(operands[cut], mesh)[split[cut]];
      const part = this.#sizesOf(body.params[cut], mesh)[split[cut]];
      return { ...attrs, tiles: TILES, rest: rest > 0 ? whole - part : 0 };
    }
    const { resize } = recordOf(op);
    if (!resize) return attrs;
    const now = (values: readonly Value[]) => values.map((value) => this.#sizesOf(value, mesh));
    const was = (values: readonly Value[]) => values.map(({ type }) => sizesOf(type));
    const before = { operands: was(operands), results: was(results) };
    const changed = resize(attrs, { operands: now(operands), results: now(results), before });
    return { ...attrs, ...(changed as Node["attrs"]) };
  }
}

function tileAttrs(attrs: Node["attrs"]) {
  return attrs as unknown as {
    readonly tiles: number;
    readonly rest: number;
    readonly split: readonly number[];
    readonly join: readonly number[];
  };
}
