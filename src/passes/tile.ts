/**
 * @file Tiles what is left of a layer beside its MLP and attention: any chain of ops that leaves the tokens apart, as norms,
 * projections, rotary embeddings and the output projection.
 *
 *     %norm = rms_norm %h, %norm.weight                      : f32[1, 4096, 512]
 *     %q_proj = matmul %norm, %wq transpose_b=true           : f32[1, 4096, 512]
 *     %heads = split_heads %q_proj heads=8                   : f32[1, 4096, 8, 64]
 *     %q = rope %heads, %cos, %sin                           : f32[1, 4096, 8, 64]
 *
 *   becomes
 *
 *     %q = tile %h, %norm.weight, %wq, %cos, %sin tiles=8 split=[1, -1, -1, 1, 1] join=[1] : f32[1, 4096, 8, 64] {
 *       ... the same four, on 512 tokens
 *     }
 *
 * Which ops leave the tokens apart is read from their sharding rules: what may be split over ranks along the sequence may
 * be cut along it. What goes into the tile and what comes out is whole; everything between exists for one tile, in backward
 * too, where the body runs again (see differentiate) and weight gradients are summed in f32. The price is that chain's forward
 * once more, and nothing where layers are computed again anyway.
 */
import { definePass } from "./pass.ts";
import { tileSegments } from "./tile-segments.ts";

export const tile = definePass({
  name: "tile",
  summary: "computes what works token by token, but for MLPs, for a few tokens at a time",
  numerics: "reordered",
  requires: [],
  establishes: [],
  /** tiles 0: as many as make the largest value inside at most `tile_bytes`. 1: off. */
  options: { tiles: 1, tile_bytes: 2 ** 26 },

  run: (graph, { tiles, tile_bytes }) =>
    tileSegments(graph, { tiles, tile_bytes, takes: ({ isMlp }) => !isMlp }),
});
