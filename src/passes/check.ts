/**
 * @file `--check`: did a pass keep the numbers? Runs the graph before and after it on small random inputs and compares.
 *
 * Both graphs, as the pass saw and made them, shrink together (ir/shrink.ts) and run in float64. First each as a whole:
 * what is `exact` must agree bit for bit, what is `reordered` within the rounding of a sum, and of what is `changed` only
 * the shape is compared. Then, where the graph is laid out, every rank runs on its share: together they must give what the
 * whole graph gives, and ranks that hold copies must hold the same. A pass that makes gradients is held to the slopes of
 * the loss. What a program is given or gives back may change in three ways: a family of weights becomes single weights,
 * inputs become families of micro batches whose results are added up, and `reference` of the pass's record.
 */
import type { NDArray } from "../ir/array.ts";
import type { Graph, Node, Value } from "../ir/graph.ts";
import {
  type Arrays,
  coordinatesOf,
  type InterpretOptions,
  type InterpretResult,
  interpret,
  type Watch,
  wholeOf,
} from "../ir/interpret.ts";
import { Memo } from "../ir/memo.ts";
import { printNode } from "../ir/print.ts";
import { sampleArrays } from "../ir/sample.ts";
import { shrink } from "../ir/shrink.ts";
import { type Mesh, printType } from "../ir/type.ts";
import { verify } from "../ir/verify.ts";
import { microBatches, unrolledArrays } from "./check-inputs.ts";
import { wrongSlope } from "./check-slopes.ts";
import type { PipelineEntry } from "./pipeline.ts";
import type { RunOptions } from "./run.ts";

/** Of sums in another order in float64, relative to the largest number of the tensor. */
const REORDERED = 1e-9;
/** Elements of all parameters of a graph beyond which it isn't run. */
const MOST_ELEMENTS = 2 ** 22;
const SEED = 7;

export interface CheckOptions {
  /** Told of each pass what was compared, or why it could not be. */
  readonly report?: (line: string) => void;
}

/** The comparison for `runPipeline`: null where the numbers were kept, else what differs first, and where. */
export function numbersKept({ report = () => {} }: CheckOptions = {}): NonNullable<RunOptions["compare"]> {
  const known = new Known();
  return (entry, before, after) => {
    const { pass } = entry;
    const small = shrink([before, after]);
    const problem = "problem" in small ? small.problem : tooLarge(small.graphs);
    if (problem !== null || "problem" in small) {
      report(`${pass.name}: not compared: ${problem}`);
      return null;
    }
    const [from, to] = small.graphs;
    const { wrong, counted } = compare(entry, from, to, known);
    if (wrong === null) report(`${pass.name}: ${counted}`);
    return wrong;
  };
}

function tooLarge(graphs: readonly Graph[]): string | null {
  const count = ({ params }: Graph) =>
    params.reduce(
      (sum, { value: { type } }) => sum + type.dims.reduce((a, dim) => a * dim.size, type.times ?? 1),
      0,
    );
  const most = Math.max(...graphs.map(count));
  return most > MOST_ELEMENTS ? `its sizes depend on each other, and ${most} elements are too many` : null;
}

interface Answer {
  readonly wrong: string | null;
  /** What was compared, for who asks. */
  readonly counted: string;
}

/** What runs have in common: a pass changes a part of a graph, and the rest need not be computed again. */
class Known {
  readonly memo = new Memo();
  #arrays: Arrays = new Map();

  /** `drawn`, in the very arrays of the pass before where they hold the same. */
  begin(drawn: Arrays): Arrays {
    const before = this.#arrays;
    this.memo.turn();
    this.#arrays = new Map(
      [...drawn].map(([name, array]) => {
        const last = before.get(name);
        return [name, last && differenceOf(last, array, 0) === null ? last : array];
      }),
    );
    return this.#arrays;
  }
}

/** Every value of a run by its path. */
type Trace = () => ReadonlyMap<string, NDArray>;

const traced = (run: (watch: Watch) => void): Trace => {
  return () => {
    const trace = new Map<string, NDArray>();
    run((path, _value, [array]) => void trace.set(path, array));
    return trace;
  };
};

function compare(entry: PipelineEntry, before: Graph, after: Graph, known: Known): Answer {
  const { pass, options } = entry;
  const drawn = sampleArrays([after, before], SEED);
  const arrays = known.begin(pass.inputs ? pass.inputs(drawn) : drawn);
  const { memo } = known;
  const old = runBefore(before, after, arrays, { memo });
  const trace = traced((watch) => runBefore(before, after, arrays, { memo, watch }));
  const expected = pass.reference ? pass.reference(old, arrays, before, options) : old;
  const now = interpret(after, arrays, { memo });
  const tolerance = pass.reference || pass.numerics !== "exact" ? REORDERED : 0;
  const mayGo = pass.establishes.includes("updated") && !pass.reference;
  const how = { exact: "bit for bit", reordered: "within rounding", changed: "by their sizes" } as const;
  const names = pass.reference ? how.reordered : how[pass.numerics];

  let compared = 0;
  for (const [kind, own, got] of [
    ["output", expected.outputs, now.outputs],
    ["update", expected.updates, now.updates],
  ] as const) {
    for (const [name, want] of own) {
      const result = got.get(name);
      if (!result) {
        if (mayGo) continue;
        return { wrong: `the ${kind} "${name}" is gone`, counted: "" };
      }
      compared += 1;
      const difference = differenceOf(result, want, pass.numerics === "changed" ? Infinity : tolerance);
      if (difference === null) continue;
      const first = firstWrong(after, arrays, trace, tolerance, false);
      return { wrong: `${kind} ${name} ${difference} (${pass.numerics})${first}`, counted: "" };
    }
  }
  if (pass.establishes.includes("differentiated")) {
    const wrong = wrongSlope(after, arrays, now);
    if (wrong !== null) return { wrong, counted: "" };
  }
  const ranks = byRank(after, arrays, now, memo);
  if (ranks.wrong !== null) return ranks;
  return { wrong: null, counted: `${compared} results ${names}${ranks.counted}` };
}

/** The graph before on what the graph after is given. */
function runBefore(
  before: Graph,
  after: Graph,
  arrays: Arrays,
  options: InterpretOptions & { readonly memo: Memo },
): InterpretResult {
  const batches = microBatches(before, after, arrays);
  if (batches.length === 1) return interpret(before, unrolledArrays(before, batches[0]), options);
  const results = batches.map((batch) => interpret(before, batch, { memo: options.memo }));
  const added = (of: (result: InterpretResult) => Map<string, NDArray>) =>
    new Map(
      [...of(results[0])].map(([name, first]) => {
        const data = first.data.map((_, i) =>
          results.reduce((sum, own) => sum + (of(own).get(name) as NDArray).data[i], 0),
        );
        return [name, { sizes: first.sizes, data }];
      }),
    );
  return { outputs: added((own) => own.outputs), updates: added((own) => own.updates) };
}

/** Every rank on its share: what they hold together must be what the whole graph gives. */
function byRank(after: Graph, arrays: Arrays, whole: InterpretResult, memo: Memo): Answer {
  const { mesh } = after;
  const ranks = coordinatesOf(mesh).length;
  if (ranks === 1 || verify(after, ["laid-out"]).length > 0) return { wrong: null, counted: "" };
  const trace = traced((watch) => interpret(after, arrays, { memo, watch }));
  const got = interpret(after, arrays, { byRank: true, memo });
  const exits = [...whole.outputs, ...whole.updates];
  const all = new Map([...got.outputs, ...got.updates]);
  for (const [name, want] of exits) {
    const difference = differenceOf(all.get(name) as NDArray, want, REORDERED);
    if (difference === null) continue;
    const first = firstWrong(after, arrays, trace, REORDERED, true);
    return { wrong: `run by ${ranks} ranks, ${name} ${difference}${first}`, counted: "" };
  }
  return { wrong: null, counted: `, and rank by rank on ${ranks} ranks` };
}

/** What differs, as `[0, 3] is 1.5, was 2.5`; null where nothing does. An infinite tolerance compares sizes and finiteness. */
export function differenceOf(got: NDArray, want: NDArray, tolerance: number, was = "was"): string | null {
  if (got.sizes.join() !== want.sizes.join())
    return `is [${got.sizes.join(", ")}], ${was} [${want.sizes.join(", ")}]`;
  const scale = want.data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  for (let i = 0; i < want.data.length; i++) {
    const [a, b] = [got.data[i], want.data[i]];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) continue;
    const isNear = Number.isFinite(a) && Math.abs(a - b) <= tolerance * scale;
    if (isNear || (tolerance === Infinity && Number.isFinite(a) === Number.isFinite(b))) continue;
    return `${indexText(i, want.sizes)}is ${a}, ${was} ${b}`;
  }
  return null;
}

function indexText(flat: number, sizes: readonly number[]): string {
  if (sizes.length === 0) return "";
  const index: number[] = [];
  let left = flat;
  for (let d = sizes.length - 1; d >= 0; d--) {
    index.unshift(left % sizes[d]);
    left = Math.floor(left / sizes[d]);
  }
  return `at [${index.join(", ")}] `;
}

/** The first value of the graph after that has another number than the value of its name before, with its line. */
function firstWrong(
  after: Graph,
  arrays: Arrays,
  trace: Trace,
  tolerance: number,
  isByRank: boolean,
): string {
  let found = "";
  const wanted = trace();
  const watch = (path: string, value: Value, shares: readonly NDArray[], node: Node) => {
    if (found !== "") return;
    const got = isByRank ? joined(value, shares, after.mesh) : shares[0];
    const want = wanted.get(path);
    if (typeof got !== "string" && (!want || want.sizes.join() !== got.sizes.join())) return;
    const difference = typeof got === "string" ? got : differenceOf(got, want as NDArray, tolerance);
    if (difference === null) return;
    const place = node.loc === "" ? "" : `${node.loc}: `;
    const statement = printNode(node, "")
      .replace(/ +/g, " ")
      .replace(/ ; .*$/, "");
    found = `\n  The first value that differs is ${path === value.name ? `%${path}` : path}: ${difference}\n  ${place}${statement}`;
  };
  interpret(after, arrays, { byRank: isByRank, watch });
  return found;
}

/** A value's shares put together; or what is wrong where ranks hold different copies. */
function joined(value: Value, shares: readonly NDArray[], mesh: Mesh): NDArray | string {
  const { type } = value;
  const owned = new Set([...type.partial, ...type.dims.flatMap((dim) => dim.axes)]);
  const first = new Map<string, NDArray>();
  for (const [i, rank] of coordinatesOf(mesh).entries()) {
    const key = [...rank].flatMap(([axis, at]) => (owned.has(axis) ? [at] : [])).join();
    const other = first.get(key);
    if (!other) first.set(key, shares[i]);
    else if (differenceOf(shares[i], other, REORDERED) !== null)
      return `ranks hold different copies, but it is ${printType(type)}`;
  }
  return wholeOf(shares, type, mesh);
}
