/**
 * @file Says of attention that every sample is one document, where the data hold no documents.
 *
 *     %out, %lse = attention %q, %k, %v, %segments scale=0.125
 *
 *   becomes
 *
 *     %out, %lse = attention %q, %k, %v, %segments packed=false scale=0.125
 *
 * Right because the data reader then gives every token of a sample the same segment, so comparing them hides nothing. A
 * run with documents refuses the program. Kernels without a mask for documents, which are the fastest on a GPU, may be
 * used from here on.
 */
import { zeros } from "../ir/array.ts";
import { attention as attend } from "../ir/ops/attention.ts";
import { keep, rewrite } from "../ir/rewrite.ts";
import { definePass } from "./pass.ts";

export const oneDocument = definePass({
  name: "one-document",
  summary: "says of attention that every sample is one document",
  numerics: "exact",
  requires: [],
  establishes: [],
  options: {},

  run(graph) {
    return rewrite(graph, {
      attention(node, { q, k, v, segments }) {
        // Behind the end of a causal sample padding is seen by nothing that has a label.
        if (!node.attrs.causal) return keep;
        return attend(q, k, v, segments, { ...node.attrs, packed: false });
      },
    });
  },

  inputs(arrays) {
    const segments = arrays.get("segments");
    return segments ? new Map([...arrays, ["segments", zeros(segments.sizes)]]) : arrays;
  },
});
