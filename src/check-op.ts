/**
 * @file Holds ops of the user's own together with their records: on samples, `infer`, `gradient` and `sharding` against
 * `eval`, and the compiled kernels against it too.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { planOf } from "./choose.ts";
import { buildProgram, type Report } from "./codegen/build.ts";
import { emitCpu } from "./codegen/cpu/emit.ts";
import { cpuTarget } from "./codegen/cpu/target.ts";
import { emitCuda } from "./codegen/cuda/emit.ts";
import { cudaTarget } from "./codegen/cuda/target.ts";
import type { BuildTarget, TargetName } from "./codegen/targets.ts";
import type { OpSample } from "./extend/define-kernel.ts";
import { loadKernels } from "./extend/ops.ts";
import { type NDArray, product } from "./ir/array.ts";
import { Builder, building } from "./ir/build.ts";
import { UserError } from "./ir/error.ts";
import type { Attrs, Graph, Role, Value } from "./ir/graph.ts";
import { interpret } from "./ir/interpret.ts";
import { letters } from "./ir/layout.ts";
import { type OpDefinition, ruleOf } from "./ir/op.ts";
import { ops } from "./ir/ops/index.ts";
import { sampleArrays } from "./ir/sample.ts";
import { type DType, isFloat, type Mesh, parseType, sizesOf, type TensorType } from "./ir/type.ts";
import { printComplaint, verify } from "./ir/verify.ts";
import { decode, encode, rounded } from "./launch/elements.ts";
import { openProgram } from "./launch/program.ts";
import { differenceOf } from "./passes/check.ts";
import { wrongSlope } from "./passes/check-slopes.ts";
import { differentiate } from "./passes/differentiate.ts";

/** Something that was looked at. */
export interface Finding {
  readonly op: string;
  /** The operands' types, and the attributes that are not the default ones. */
  readonly sample: string;
  /** What should hold. */
  readonly what: string;
  /** How it does not; null where it does. */
  readonly wrong: string | null;
}

interface Use {
  readonly record: OpDefinition;
  readonly sample: OpSample;
}

const SEED = 11;
/** Of float64, relative to the largest number of a result. */
const ROUNDING = 1e-9;
/** Of kernels: sums of some hundred terms in f32; in bf16 half a unit in the last place, and as much for values inside. */
const KERNEL_ROUNDING = { f32: 2e-5, bf16: 2 ** -7 } as const;
const THREADS = 2;

/**
 * Checks every op for which the file has kernels; these run once all else holds. Throws a UserError where there are none, or
 * no samples.
 */
export async function checkOps(
  file: string,
  target: TargetName,
  report: Report = () => {},
  on: TargetName | BuildTarget = target,
): Promise<readonly Finding[]> {
  const uses = loadKernels(file).flatMap(({ record, options: { samples = [] } }): Use[] => {
    if (samples.length > 0) return samples.map((sample) => ({ record, sample }));
    throw new UserError(`there are no samples of ${record.name} to check it with`, {
      location: file,
      remedy: `Add to its defineKernel: samples: [{ types: [${record.operands.map(() => '"f[2, 6, 8]"').join(", ")}] }]; f stands for f32 and for bf16.`,
    });
  });
  const findings = uses.flatMap((use) => {
    const first = finding(use, "eval gives what infer says", () => wrongTypes(use));
    return first.wrong === null ? [first, ...gradientOf(use), ...layoutsOf(use)] : [first];
  });
  if (findings.some(({ wrong }) => wrong !== null)) return findings;
  for (const dtype of ["f32", "bf16"] as const) {
    const own = uses.filter(
      ({ sample }) => dtype === "f32" || sample.types.some((type) => /^f\b/.test(type)),
    );
    if (own.length > 0) findings.push(...(await kernelsOf(own, dtype, target, report, on)));
  }
  return findings;
}

function finding({ record, sample }: Use, what: string, run: () => string | null): Finding {
  const attrs = Object.entries(sample.attrs ?? {}).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  const shown = { op: record.name, sample: [sample.types.join(", "), ...attrs].join(" "), what };
  try {
    return { ...shown, wrong: run() };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { ...shown, wrong: error.message };
  }
}

const typesOf = ({ sample }: Use, dtype: DType): TensorType[] =>
  sample.types.map((type) => parseType(type.replace(/^f(?=\W)/, dtype)));

/** The use alone: its operands as parameters by their names, its results as outputs by theirs. */
function graphOf(
  { record, sample }: Use,
  types: readonly TensorType[],
  mesh: Mesh = new Map(),
  role: (type: TensorType) => Role = () => "input",
): { builder: Builder; results: readonly Value[]; graph: Graph } {
  const builder = new Builder(mesh);
  const operands = types.map((type, i) => builder.param(role(type), record.operands[i] ?? `x${i}`, type));
  const attrs = (sample.attrs ?? {}) as Partial<Attrs>;
  const { results } = builder.add(record, operands, attrs, { name: [...record.results] });
  const outputs = results.map((value, i) => ({ name: record.results[i], value }));
  const { params, nodes } = builder;
  return { builder, results, graph: { name: record.name, mesh, params, nodes, outputs, updates: [] } };
}

function wrongTypes(use: Use): string | null {
  const { graph } = graphOf(use, typesOf(use, "f32"));
  const [node] = graph.nodes;
  const wanted = node.results.map(({ type }) => sizesOf(type));
  const begin = wanted.map((sizes) => sizes.map(() => 0));
  const results = use.record.eval?.([...sampleArrays([graph], SEED).values()], node.attrs, wanted, begin);
  for (const [i, name] of use.record.results.entries()) {
    const { sizes, data } = results?.[i] ?? { sizes: [], data: [] };
    if (sizes.join() !== wanted[i].join() || data.length !== product(wanted[i]))
      return `${name} has ${data.length} elements as [${sizes.join(", ")}], infer says [${wanted[i].join(", ")}]`;
    const at = data.findIndex((number) => !Number.isFinite(number));
    if (at >= 0) return `element ${at} of ${name} is ${data[at]}`;
  }
  return null;
}

/** The gradient against slopes of a sum of all results, each element weighted at random. */
function gradientOf(use: Use): Finding[] {
  const types = typesOf(use, "f32");
  if (use.record.gradient === null || !types.some(isFloat)) return [];
  const run = (): string | null => {
    const { builder, results, graph } = graphOf(use, types, new Map(), (type) =>
      isFloat(type) ? "param" : "input",
    );
    const loss = building(builder, () =>
      results
        .filter(({ type }) => isFloat(type))
        .map((result) => {
          const weighted = ops.mul(result, builder.param("input", `${result.name}.weights`, result.type));
          const dims = result.type.dims.map((_, i) => i);
          return dims.length > 0 ? ops.sum(weighted, { dims }) : weighted;
        })
        .reduce((total, part) => ops.add(total, part)),
    );
    const forward = { ...graph, nodes: builder.nodes, outputs: [{ name: "loss_sum", value: loss }] };
    const after = differentiate.run(forward, differentiate.options);
    const [complaint] = verify(after);
    return complaint ? printComplaint(complaint) : wrongSlope(after, sampleArrays([after], SEED));
  };
  return [finding(use, "the gradient is the slope of eval", run)];
}

/** Every dimension that the rule leaves free, shared by two ranks. */
function layoutsOf(use: Use): Finding[] {
  const types = typesOf(use, "f32");
  const { graph } = graphOf(use, types);
  const results = graph.outputs.map(({ value }) => value.type);
  const { operands } = letters(ruleOf(use.record, graph.nodes[0].attrs, types), types, results);
  const all = operands.flat();
  const free = [...new Set(all.map(({ letter }) => letter))].filter(
    (letter) => letter !== "_" && !all.some((own) => own.letter === letter && own.whole),
  );
  const arrays = sampleArrays([graph], SEED);
  return free.flatMap((letter): Finding[] => {
    const has = (i: number, d: number) => operands[i][d].letter === letter;
    const isEven = types.every(({ dims }, i) => dims.every(({ size }, d) => !has(i, d) || size % 2 === 0));
    if (!isEven) return [];
    const split = types.map((type, i) => ({
      ...type,
      dims: type.dims.map((dim, d) => (has(i, d) ? { ...dim, axes: ["r"] } : dim)),
    }));
    const place = operands.findIndex((dims) => dims.some((own) => own.letter === letter));
    const where = `dimension ${operands[place].findIndex((own) => own.letter === letter)} of ${use.record.operands[place]}`;
    return [
      finding(use, `two ranks that share ${where} give what one gives`, () => {
        const shared = graphOf(use, split, new Map([["r", 2]])).graph;
        const [complaint] = verify(shared, ["typed", "laid-out"]);
        if (complaint) return printComplaint(complaint);
        const whole = interpret(graph, arrays).outputs;
        const { outputs } = interpret(shared, arrays, { byRank: true });
        return firstDifference(outputs, whole, () => ROUNDING);
      }),
    ];
  });
}

function firstDifference(
  got: ReadonlyMap<string, NDArray>,
  want: ReadonlyMap<string, NDArray>,
  tolerance: (name: string) => number,
): string | null {
  for (const [name, array] of want) {
    const difference = differenceOf(got.get(name) as NDArray, array, tolerance(name), "not");
    if (difference !== null) return `${name} ${difference}`;
  }
  return null;
}

/** The kernels on inputs, and between copies: a result may then be written over an operand, or where NaN was before. */
async function kernelsOf(
  uses: readonly Use[],
  dtype: "f32" | "bf16",
  target: TargetName,
  report: Report,
  on: TargetName | BuildTarget,
): Promise<Finding[]> {
  const builder = new Builder(new Map());
  const outputs: { name: string; value: Value }[] = [];
  const arrays = new Map<string, NDArray>();
  const wanted = uses.map((use, at) => {
    const { graph } = graphOf(use, typesOf(use, dtype));
    const given = new Map(
      [...sampleArrays([graph], SEED)].map(([name, { sizes, data }], i): [string, NDArray] => {
        const own = graph.params[i].value.type.dtype;
        return [name, { sizes, data: data.map((number) => rounded(number, own)) }];
      }),
    );
    const operands = graph.params.map(({ value }) =>
      builder.param("input", `${at}.${value.name}`, value.type),
    );
    for (const [name, array] of given) arrays.set(`${at}.${name}`, array);
    const attrs = graph.nodes[0].attrs;
    building(builder, () => {
      const alone = builder.add(use.record, operands, attrs).results;
      const between = builder.add(use.record, operands.map(copied), attrs).results.map(copied);
      for (const [i, results] of [alone, between].entries())
        outputs.push(...results.map((value, r) => ({ name: `${at}.${i}.${use.record.results[r]}`, value })));
    });
    return { use, graph, expected: interpret(graph, given).outputs };
  });
  const { params, nodes } = builder;
  const whole: Graph = { name: "ops", mesh: new Map(), params, nodes, outputs, updates: [] };
  const got = await run(whole, arrays, target, report, on);
  return wanted.map(({ use, graph, expected }, at) =>
    finding(use, `its ${target} kernel gives what eval gives in ${dtype}`, () => {
      const tolerance = (name: string): number => {
        const own = graph.outputs.find((output) => output.name === name)?.value.type.dtype;
        return own === "i32" ? 0 : KERNEL_ROUNDING[own === "bf16" ? "bf16" : dtype];
      };
      for (const i of [0, 1]) {
        const own = new Map(
          [...expected.keys()].map((name) => [name, got.get(`${at}.${i}.${name}`) as NDArray]),
        );
        const wrong = firstDifference(own, expected, tolerance);
        if (wrong !== null) return wrong;
      }
      return null;
    }),
  );
}

const copied = (value: Value): Value => (isFloat(value.type) ? ops.scale(value, { by: 1 }) : value);

/** Compiles a graph for one rank and runs it once, on the CPU with NaN in bytes that nothing has been written to. */
async function run(
  graph: Graph,
  arrays: ReadonlyMap<string, NDArray>,
  target: TargetName,
  report: Report,
  on: TargetName | BuildTarget,
): Promise<ReadonlyMap<string, NDArray>> {
  const [machine, emit] =
    target === "cuda" ? [cudaTarget(graph.mesh), emitCuda] : [cpuTarget(graph.mesh, THREADS), emitCpu];
  const folder = mkdtempSync(join(tmpdir(), "ithaca-check-op-"));
  try {
    const sources = emit(planOf(graph, machine), { threads: THREADS, modelFlops: 0, poison: true });
    const built = await buildProgram(sources, folder, on, report);
    const program = await openProgram(built.program, { threads: THREADS, report });
    await program.load();
    for (const { value } of graph.params)
      program.write(value.name, encode((arrays.get(value.name) as NDArray).data, value.type.dtype));
    await program.step();
    const results = graph.outputs.map(({ name, value: { type } }): [string, NDArray] => [
      name,
      { sizes: sizesOf(type), data: decode(program.read(name), type.dtype) },
    ]);
    program.close();
    return new Map(results);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
