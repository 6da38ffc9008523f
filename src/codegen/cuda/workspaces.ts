/** @file How much scratch memory each op's kernels need on a GPU, in bytes. */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import { exchangeWorkspaces, product, rowsAndColumns, type Workspaces } from "../kernels.ts";
import { takesCudnn } from "./kernels.ts";
import {
  attentionGradWorkspaceBytes,
  crossEntropyWorkspaceBytes,
  rowSumsWorkspaceBytes,
  SUM_SQUARES_WORKSPACE_BYTES,
} from "./workspace.ts";
import {
  cudnnAttentionGradWorkspaceBytes,
  cudnnAttentionWorkspaceBytes,
  MATMUL_WORKSPACE_BYTES,
} from "./workspace-libraries.ts";

export const workspaces: Workspaces = {
  matmul: () => MATMUL_WORKSPACE_BYTES,
  matmul_add: () => MATMUL_WORKSPACE_BYTES,
  sum({ operands: [x], attrs: { dims } }, mesh) {
    const sizes = localSizes(x.type, mesh);
    const columns = product(sizes.slice(dims.length));
    return rowSumsWorkspaceBytes(product(sizes) / columns, columns);
  },
  sum_squares: () => SUM_SQUARES_WORKSPACE_BYTES,
  rms_norm_grad: ({ operands: [x] }, mesh) => rowSumsWorkspaceBytes(...rowsAndColumns(x.type, mesh)),
  attention: (node, mesh) => (takesCudnn(node, mesh) ? cudnnAttentionWorkspaceBytes(headsOf(node, mesh)) : 0),
  attention_grad(node, mesh) {
    const heads = headsOf(node, mesh);
    if (takesCudnn(node, mesh)) return cudnnAttentionGradWorkspaceBytes(heads);
    return attentionGradWorkspaceBytes(heads.batch, heads.sequenceQ, heads.heads);
  },
  cross_entropy: ({ operands: [logits] }, mesh) =>
    crossEntropyWorkspaceBytes(rowsAndColumns(logits.type, mesh)[0]),
  ...exchangeWorkspaces,
};

function headsOf({ operands: [q, k] }: Node, mesh: Mesh) {
  const [batch, sequenceQ, heads, headDim] = localSizes(q.type, mesh);
  const [, sequenceKv, kvHeads] = localSizes(k.type, mesh);
  return { batch, sequenceQ, sequenceKv, heads, kvHeads, headDim };
}
