/** @file Compiles a graph and runs one step of it on plain arrays. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildProgram } from "../../src/codegen/build.ts";
import { emitCpu } from "../../src/codegen/cpu/emit.ts";
import { cpuTarget } from "../../src/codegen/cpu/target.ts";
import { emitCuda } from "../../src/codegen/cuda/emit.ts";
import { cudaTarget } from "../../src/codegen/cuda/target.ts";
import type { BuildTarget, TargetName } from "../../src/codegen/targets.ts";
import type { NDArray } from "../../src/ir/array.ts";
import type { Graph } from "../../src/ir/graph.ts";
import { coordinatesOf, sharesOf, wholeOf } from "../../src/ir/interpret.ts";
import type { Plan } from "../../src/ir/plan.ts";
import { findRaces } from "../../src/ir/race.ts";
import { localSizes, type TensorType } from "../../src/ir/type.ts";
import { decode, encode } from "../../src/launch/elements.ts";
import { openProgram } from "../../src/launch/program.ts";
import { planMemory } from "../../src/passes/plan-memory.ts";
import { schedule } from "../../src/passes/schedule.ts";

/** The plan of `graph`. Throws where it has a race. */
export function planFor(graph: Graph, threads = 2, name: TargetName = "cpu"): Plan {
  const target = name === "cuda" ? cudaTarget(graph.mesh) : cpuTarget(graph.mesh, threads);
  const plan = planMemory(schedule(graph, target));
  const races = findRaces(plan);
  if (races.length > 0) throw new Error(races.map(({ message }) => message).join("\n"));
  return plan;
}

/**
 * Compiles `graph`, gives each rank its share of `arrays` and runs one step: the outputs, and the parameters and states
 * after it, put together again.
 */
export async function runCompiled(
  graph: Graph,
  arrays: ReadonlyMap<string, NDArray>,
  threads = graph.mesh.size > 0 ? 1 : 2,
  target: TargetName = "cpu",
  plan = planFor(graph, threads, target),
  on: TargetName | BuildTarget = target,
  poison = false,
): Promise<{ outputs: Map<string, Float64Array>; updates: Map<string, Float64Array> }> {
  const folder = mkdtempSync(join(tmpdir(), "ithaca-kernels-"));
  try {
    const emit = target === "cuda" ? emitCuda : emitCpu;
    const built = await buildProgram(emit(plan, { threads, modelFlops: 0, poison }), folder, on);
    const ranks = coordinatesOf(graph.mesh).length;
    const program = await openProgram(built.program, { threads, ranks, hostSpill: folder });
    await program.load();
    for (const { value } of graph.params) {
      sharesOf(arrays.get(value.name) as NDArray, value.type, graph.mesh).forEach((share, rank) => {
        program.write(value.name, encode(share.data, value.type.dtype), rank);
      });
    }
    await program.step();
    const whole = (name: string, type: TensorType) => {
      const sizes = [...(type.times === null ? [] : [type.times]), ...localSizes(type, graph.mesh)];
      const shares = Array.from({ length: ranks }, (_, rank) => ({
        sizes,
        data: decode(program.read(name, rank), type.dtype),
      }));
      return [name, wholeOf(shares, type, graph.mesh).data] as const;
    };
    const outputs = graph.outputs.map(({ name, value }) => whole(name, value.type));
    const updates = graph.updates.map(({ param }) => whole(param.name, param.type));
    program.close();
    return { outputs: new Map(outputs), updates: new Map(updates) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
