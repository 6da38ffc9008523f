/**
 * @file The kernel of every op on a target against its reference evaluation, all samples in one program per element type.
 *
 * Each sample runs twice: on inputs, with its results as outputs; and between copies, so that the planner may let a
 * result overwrite an operand, as it does in a model.
 */
import { beforeAll, describe, expect, test } from "vitest";
import type { Kernels } from "../../src/codegen/kernels.ts";
import type { BuildTarget, TargetName } from "../../src/codegen/targets.ts";
import type { NDArray } from "../../src/ir/array.ts";
import { Builder, building } from "../../src/ir/build.ts";
import type { Graph, Role, Value } from "../../src/ir/graph.ts";
import { interpret } from "../../src/ir/interpret.ts";
import { type OpName, opNames, ops } from "../../src/ir/ops/index.ts";
import { isFloat, type Mesh, type TensorType } from "../../src/ir/type.ts";
import { samples } from "../ops/samples.ts";
import { runCompiled } from "./compiled.ts";
import { errorOf } from "./random.ts";
import { call, type Prepared, prepare, ready } from "./sample.ts";

/**
 * Errors allowed, relative to the largest magnitude of the result. f32 sums of some hundred terms keep within 2e-5. A
 * result in bf16 is off by half a unit in its last place, up to 2^-8 of it; kernels round inner values once too (the
 * probabilities of attention, which are then summed): 2^-7 has room for both. The steps of a body hand rounded values
 * on: they are given twice that.
 */
const TOLERANCE = { f32: 2e-5, bf16: 2 ** -7 } as const;

/** Ops that round inside although their result is f32: rms_norm's gradient, its normal rows, as Hugging Face does. */
const ROUNDS_INSIDE: ReadonlySet<OpName> = new Set(["rms_norm_grad"]);

/** Ops that only a plan contains, in place of others. */
const ONLY_IN_PLACE: ReadonlySet<OpName> = new Set(["adamw", "matmul_add"]);

/** Loops and blocks become steps of the plan, so that they are tested here without a kernel of their own. */
const isLaidOut = (op: OpName): boolean => ["repeat", "tile", "checkpoint"].includes(op);

/** Why a target can't run an op; "" where it can. */
function whyNot(op: OpName, kernels: Kernels): string {
  if (isLaidOut(op)) return "";
  try {
    const node = { op, operands: [], attrs: {}, results: [], body: null, loc: "" };
    kernels[op].emit(node as never, {} as never);
    return "";
  } catch (error) {
    const { message } = error as Error;
    return message.startsWith(`${op}: `) ? message : "";
  }
}

interface Case {
  readonly title: string;
  readonly op: OpName;
  readonly prepared: Prepared;
}

/** What the op writes in place is a weight with its states; everything else comes in as input. */
function roleOf(op: OpName, operand: number): Role {
  if (op !== "adamw") return "input";
  return operand === 0 ? "param" : operand === 2 || operand === 3 ? "state" : "input";
}

/** One graph of all cases, with the arrays of its inputs. */
function programOf(
  all: readonly Case[],
  name: string,
  mesh: Mesh,
): { graph: Graph; given: Map<string, NDArray> } {
  const builder = new Builder(mesh);
  const given = new Map<string, NDArray>();
  const outputs: { name: string; value: Value }[] = [];
  const updates: { param: Value; value: Value }[] = [];
  const copied = (value: Value): Value =>
    isFloat(value.type) && value.type.times === null && value.type.memory === "device"
      ? ops.scale(value, { by: 1 })
      : value;
  // The host sees nothing of the file: there values come from its memory, and go there.
  const outOfFile = (value: Value): Value => (value.type.memory === "file" ? ops.fetch(value) : value);
  const operand = (role: Role, name: string, type: TensorType): Value => {
    if (type.memory !== "file") return builder.param(role, name, type, role === "param" ? "zeros" : "");
    return ops.spill(builder.param(role, name, { ...type, memory: "host" }));
  };
  building(builder, () => {
    for (const { title, op, prepared } of all) {
      const key = title.replace(" ", ".");
      builder.serving = key;
      const operands = prepared.types.map((type, i) => {
        given.set(`${key}.x${i}`, prepared.arrays[i]);
        return operand(roleOf(op, i), `${key}.x${i}`, type);
      });
      if (op === "adamw") {
        const results = call(op, prepared.sample, prepared.attrs, operands);
        updates.push(...[0, 2, 3].map((at, i) => ({ param: operands[at], value: results[i] })));
        continue;
      }
      if (!ONLY_IN_PLACE.has(op)) {
        const results = call(op, prepared.sample, prepared.attrs, operands);
        outputs.push(...results.map((value, i) => ({ name: `${key}.r${i}`, value: outOfFile(value) })));
      }
      const again = call(op, prepared.sample, prepared.attrs, operands.map(copied)).map(copied);
      outputs.push(...again.map((value, i) => ({ name: `${key}.again.r${i}`, value: outOfFile(value) })));
    }
  });
  return {
    graph: { name, mesh, params: builder.params, nodes: builder.nodes, outputs, updates },
    given,
  };
}

/** Tests of all kernels of a target. */
export function describeKernels(
  target: TargetName,
  kernels: Kernels,
  on: TargetName | BuildTarget = target,
): void {
  const missing = opNames.filter((op) => whyNot(op, kernels) !== "");
  const cases = opNames
    .filter((op) => !missing.includes(op))
    .flatMap((op) => samples[op].map((sample, i) => ({ title: `${op} ${i}`, op, sample })));

  test(`${target} has a kernel for every op`, () => {
    expect(missing.map((op) => whyNot(op, kernels))).toEqual([]);
  });

  describe.each(["f32", "bf16"] as const)(`${target} kernels of %s agree with eval`, (dtype) => {
    const all = cases.map(({ title, op, sample }) => ({ title, op, prepared: prepare(op, sample, dtype) }));
    const results = new Map<string, ArrayLike<number>>();

    /** What moves layouts runs on ranks, as threads; everything else on one. */
    beforeAll(async () => {
      for (const onRanks of [false, true]) {
        const own = all.filter(({ prepared }) => prepared.mesh.size > 0 === onRanks);
        const [first] = own;
        const { graph, given } = programOf(own, `ops_${target}_${dtype}_${onRanks}`, first.prepared.mesh);
        const { outputs, updates } = await runCompiled(graph, given, undefined, target, undefined, on);
        for (const [name, data] of [...outputs, ...updates]) results.set(name, data);
      }
    });

    test.each(all)("$title", ({ title, op, prepared }) => {
      const key = title.replace(" ", ".");
      const { graph, given } = ready(prepared);
      const want = interpret(graph, given).outputs;
      graph.outputs.forEach(({ name, value }, i) => {
        const expected = (want.get(name) as NDArray).data;
        const got =
          op === "adamw"
            ? [results.get(`${key}.x${[0, 2, 3][i]}`)]
            : [results.get(`${key}.${name}`), results.get(`${key}.again.${name}`)];
        const found = got.filter((own) => own !== undefined);
        expect(found.length).toBeGreaterThan(0);
        const inner = ROUNDS_INSIDE.has(op) ? dtype : value.type.dtype;
        const most = inner === "i32" ? 0 : TOLERANCE[inner] * (isLaidOut(op) ? 2 : 1);
        for (const own of found) {
          expect(errorOf(own, expected), `${name} of ${op}`).toBeLessThanOrEqual(most);
        }
      });
    });
  });
}
