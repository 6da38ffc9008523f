/**
 * @file Tiles the MLP: its wide values exist for a few tokens at a time (ALST, arXiv:2506.13996, section 3.1.1).
 *
 *     %norm = rms_norm %h, %norm.weight                      : f32[1, 4096, 512]
 *     %gate = matmul %norm, %gate_proj transpose_b=true      : f32[1, 4096, 1536]
 *     %up = matmul %norm, %up_proj transpose_b=true          : f32[1, 4096, 1536]
 *     %act = swiglu %gate, %up                               : f32[1, 4096, 1536]
 *     %down = matmul %act, %down_proj transpose_b=true       : f32[1, 4096, 512]
 *     %y = add %h, %down                                     : f32[1, 4096, 512]
 *
 *   becomes
 *
 *     %y = tile %h, %norm.weight, %gate_proj, %up_proj, %down_proj tiles=8 split=[1, -1, -1, -1, -1] join=[1] : f32[1, 4096, 512] {
 *       ... the same six, on 512 tokens
 *     }
 *
 * No op is known by name but the product: between two places where a single value is handed on (the residual stream), what
 * leaves every token alone and has a product that feeds a product is an MLP, whatever its activation, its gate or its norm.
 * Its gradient is a tile too (see differentiate): it runs the body again and sums weight gradients over the tiles in f32,
 * straight onto the total. So between forward and backward the block keeps its input alone. The price is the block's forward
 * once more in backward; where layers are computed again anyway, that is the run they would have had.
 */
import { definePass } from "./pass.ts";
import { tileSegments } from "./tile-segments.ts";

export const tileMlp = definePass({
  name: "tile-mlp",
  summary: "computes MLPs for a few tokens at a time, forward and backward",
  numerics: "reordered",
  requires: [],
  establishes: [],
  /** tiles 0: as many as make the largest value inside at most `tile_bytes`. 1: off. */
  options: { tiles: 1, tile_bytes: 2 ** 26 },

  run: (graph, { tiles, tile_bytes }) =>
    tileSegments(graph, { tiles, tile_bytes, takes: ({ isMlp }) => isMlp }),
});
