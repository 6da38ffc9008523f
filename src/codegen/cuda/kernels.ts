/** @file The kernels that the CUDA target writes itself: products by cuBLASLt, attention by cuDNN or our own kernel, the file. */
import type { Node } from "../../ir/graph.ts";
import type { AttentionAttrs } from "../../ir/ops/attention.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import {
  attentionShape,
  type EmitContext,
  fileKernels,
  type Kernels,
  type OwnKernel,
  productShape,
  requireInPlace,
  sharedKernels,
} from "../kernels.ts";

/**
 * Whether cuDNN's fused attention takes a node: `cudnn_attention_supported` of attention_cudnn.h. The rest is for the
 * kernels in runtime/kernels/cuda/attention.h.
 */
export function takesCudnn(node: Node, mesh: Mesh): boolean {
  const { causal, packed, window, softcap } = node.attrs as unknown as AttentionAttrs;
  const [q] = node.operands;
  const width = localSizes(q.type, mesh)[3];
  const isMaskTaken = causal || (window === 0 && !packed);
  const isWhole = q.type.dims[1].axes.length === 0;
  const isFit = softcap === 0 && width % 8 === 0 && width <= 128;
  return q.type.dtype === "bf16" && isMaskTaken && isWhole && isFit;
}

function attend(node: Node, { inputs, outputs, mesh, workspace, workspaceBytes, call }: EmitContext): string {
  const own = attentionShape(node, mesh);
  const [shape, sizes] = [`AttentionShape${own.shape}`, `AttentionShape${own.sizes}`];
  const { packed } = node.attrs as unknown as AttentionAttrs;
  const [q, k, v, segments, ...rest] = inputs;
  const operands = [q, k, v, packed ? segments : "nullptr", ...rest, ...outputs, workspace];
  const takes = takesCudnn(node, mesh);
  const scope = takes ? "" : "plain::";
  const reserved = `static_assert(${scope}${node.op}_workspace_bytes(${sizes}) <= ${workspaceBytes});`;
  if (!takes) return `${reserved} ${call(`plain::${node.op}`, shape, ...operands)}`;
  const supported = `static_assert(cudnn_attention_supported(${sizes}, ${packed}));`;
  return `${supported} ${reserved} ${call(node.op, "gpu.libraries", shape, ...operands)}`;
}

const ownKernels: Pick<Kernels, OwnKernel> = {
  matmul: {
    emit: (node, { inputs, outputs, mesh, workspace, workspaceBytes, call }) =>
      call(
        "matmul",
        "gpu.libraries",
        ...inputs,
        ...outputs,
        ...productShape(node, mesh),
        workspace,
        workspaceBytes,
      ),
  },
  matmul_add: {
    emit(node, context) {
      requireInPlace(node, context);
      const { inputs, outputs, mesh, workspace, workspaceBytes, call } = context;
      const operands = [...inputs.slice(0, 2), ...outputs, ...productShape(node, mesh)];
      return call("matmul", "gpu.libraries", ...operands, workspace, workspaceBytes);
    },
  },
  attention: { emit: attend },
  attention_grad: { emit: attend },
  ...fileKernels("gpu.file.spill", "gpu.file.fetch"),
};

export const kernels: Kernels = { ...sharedKernels, ...ownKernels };
