/**
 * @file Lays the program out over the mesh: the batch is split over `dp`, the sequence over `sp`.
 *
 *     input %input_ids                             : i32[2, 4096]
 *     %h = embedding %input_ids, %table            : f32[2, 4096, 512]
 *
 *   becomes
 *
 *     input %input_ids                             : i32[2@dp, 4096@sp]
 *     %h = embedding %input_ids, %table            : f32[2@dp, 4096@sp, 512]
 *
 * Where the axis of the sequence has been parted in two, the sequence is split over both: `4096@ring@sp`.
 *
 * Only the inputs are laid out here; every other layout follows from the sharding rules of the ops. Values don't change,
 * since sizes are global. Weights are whole on every rank. What an op needs whole but finds split is for the passes
 * behind this one: the graph needn't be "laid-out" yet.
 */
import type { Param } from "../ir/graph.ts";
import { retype } from "../ir/rewrite.ts";
import type { TensorType } from "../ir/type.ts";
import { definePass } from "./pass.ts";

export const shard = definePass({
  name: "shard",
  summary: "splits the batch and the sequence of the inputs over the mesh",
  numerics: "exact",
  requires: [],
  establishes: [],
  /** The mesh axes of dimension 0 and 1 of the inputs; `ring` is the major one of the sequence. */
  options: { batch: "dp", ring: "ring", sequence: "sp" },

  run(graph, { batch, ring, sequence }) {
    const axes = [[batch], [ring, sequence]].map((own) => own.filter((axis) => graph.mesh.has(axis)));
    if (axes.every((own) => own.length === 0)) return graph;
    const split = ({ role, value }: Param): TensorType => {
      if (role !== "input" || value.type.dims.length < 2) return value.type;
      return {
        ...value.type,
        dims: value.type.dims.map((dim, i) => ({ ...dim, axes: i < 2 ? axes[i] : [] })),
      };
    };
    return retype(graph, split);
  },
});
