/**
 * @file Optimizer offload: AdamW's moments wait in host memory from one step to the next (Ren et al. 2021, arXiv:2101.06840).
 *
 *     state %m                              : f32[5, 4]
 *     %w.1, %m.1, ... = adamw %w, %d.w, %m, ...
 *     update %m = %m.1
 *
 *   becomes
 *
 *     state %m                              : f32<host>[5, 4]
 *     %m.back = reload %m                   : f32[5, 4]
 *     %w.1, %m.1, ... = adamw %w, %d.w, %m.back, ...
 *     %m.1.host = offload %m.1              : f32<host>[5, 4]
 *     update %m = %m.1.host
 *
 * The update itself stays on the device, so the bits are the same. The schedule runs a copy in front of its reader or behind
 * its maker, on lanes of their own, and keeps what goes out until the next goes: the device holds the moments of two
 * parameters, and while one's go out the next one's come. The price is 8 bytes a parameter each way over the bus.
 *
 * AdamW on the host would send gradients and weights instead, 4 bytes each way, but its 28 bytes a parameter go through a
 * memory that all GPUs of a node share: for 8 GPUs with 8 billion parameters each, 4.5 s at 400 GB/s, where buses of 50 GB/s
 * need 1.3 s.
 */
import { Builder, building, namesOf } from "../ir/build.ts";
import type { Graph, Param, Value } from "../ir/graph.ts";
import { ops } from "../ir/ops/index.ts";
import { definePass } from "./pass.ts";

export const offloadStates = definePass({
  name: "offload-states",
  summary: "keeps the optimizer's states in host memory between steps",
  numerics: "exact",
  requires: ["updated"],
  establishes: [],
  options: { where: "device" },

  run(graph, { where }) {
    const moved = where === "host" ? statesOnDevice(graph) : [];
    if (moved.length === 0) return graph;
    const builder = new Builder(graph.mesh, namesOf(graph));
    const params = graph.params.map((own): Param => {
      if (!moved.includes(own)) return own;
      return { ...own, value: { ...own.value, type: { ...own.value.type, memory: "host" } } };
    });
    const states = new Map(graph.params.map(({ value }, i) => [value, params[i].value]));
    const pending = new Set(moved.map(({ value }) => value));
    /** What stands for a state on the device, once it is there. */
    const now = new Map<Value, Value>();
    const leaving = new Map(
      graph.updates.filter(({ param }) => pending.has(param)).map(({ param, value }) => [value, param]),
    );
    const away = new Map<Value, Value>();
    for (const node of graph.nodes) {
      building(builder, () => {
        for (const state of node.operands) {
          if (!pending.delete(state)) continue;
          now.set(
            state,
            ops.reload(states.get(state) as Value, {}, { name: `${state.name}.back`, loc: node.loc }),
          );
        }
        const operands = node.operands.map((operand) => now.get(operand) ?? operand);
        builder.nodes.push(
          operands.some((own, i) => own !== node.operands[i]) ? { ...node, operands } : node,
        );
        for (const value of node.results) {
          const state = leaving.get(value);
          if (state) away.set(state, ops.offload(value, {}, { name: `${value.name}.host`, loc: node.loc }));
        }
      });
    }
    const updates = graph.updates.map((own) => {
      const value = away.get(own.param);
      return value ? { param: states.get(own.param) as Value, value } : own;
    });
    return { ...graph, params, nodes: builder.nodes, updates };
  },
});

/** The states on the device that a node makes anew. */
function statesOnDevice({ params, nodes, updates }: Graph): Param[] {
  const made = new Set(nodes.flatMap(({ results }) => results));
  const updated = new Set(updates.filter(({ value }) => made.has(value)).map(({ param }) => param));
  return params.filter(
    ({ role, value }) => role === "state" && value.type.memory === "device" && updated.has(value),
  );
}
