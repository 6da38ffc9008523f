/** @file Compiles a graph for the CPU and runs one step of it on plain arrays. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildProgram } from "../../src/codegen/build.ts";
import { emitCpu } from "../../src/codegen/cpu/emit.ts";
import { cpuTarget } from "../../src/codegen/cpu/target.ts";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import type { DType } from "../../src/ir/type.ts";
import { openProgram, type TensorView } from "../../src/launch/program.ts";
import { planMemory } from "../../src/passes/plan-memory.ts";
import { schedule } from "../../src/passes/schedule.ts";
import { toBf16 } from "./random.ts";

/** The plan of `graph` for the CPU. Throws where it has a race. */
export function planFor(graph: Graph, threads = 2): Plan {
  const plan = planMemory(schedule(graph, cpuTarget(graph.mesh, threads)));
  const races = findRaces(plan);
  if (races.length > 0) throw new Error(races.map(({ message }) => message).join("\n"));
  return plan;
}

function bitsOf(value: number): number {
  return new Uint32Array(Float32Array.of(toBf16(value)).buffer)[0] >>> 16;
}

function numberOf(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0];
}

function write(view: TensorView, { data }: NDArray, dtype: DType): void {
  data.forEach((value, i) => {
    view[i] = dtype === "bf16" ? bitsOf(value) : value;
  });
}

function read(view: TensorView, dtype: DType): Float64Array {
  return Float64Array.from(view, (value) => (dtype === "bf16" ? numberOf(value) : value));
}

/** Compiles `graph`, gives it `arrays` and runs one step: the outputs, and the parameters and states after it. */
export async function runCompiled(
  graph: Graph,
  arrays: ReadonlyMap<string, NDArray>,
  threads = 2,
): Promise<{ outputs: Map<string, Float64Array>; updates: Map<string, Float64Array> }> {
  const folder = mkdtempSync(join(tmpdir(), "ithaca-kernels-"));
  try {
    const sources = emitCpu(planFor(graph, threads), { threads, modelFlops: 0 });
    const built = await buildProgram(sources, folder, "cpu");
    const program = await openProgram(built.program, { threads });
    await program.load();
    for (const { value } of graph.params) {
      write(program.view(value.name), arrays.get(value.name) as NDArray, value.type.dtype);
    }
    await program.step();
    const outputs = graph.outputs.map(({ name, value }) => {
      return [name, read(program.view(name), value.type.dtype)] as const;
    });
    const updates = graph.updates.map(({ param }) => {
      return [param.name, read(program.view(param.name), param.type.dtype)] as const;
    });
    program.close();
    return { outputs: new Map(outputs), updates: new Map(updates) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
