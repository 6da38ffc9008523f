/** @file The kernels that the CPU target writes itself: products by oneDNN or AMX, and attention with its workspace. */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import { floatLiteral } from "../elementwise.ts";
import {
  args,
  type Kernels,
  type OwnKernel,
  productShape,
  requireInPlace,
  sharedKernels,
} from "../kernels.ts";

function attentionShape(node: Node, mesh: Mesh): string {
  const [batch, sequence, heads, width] = localSizes(node.operands[0].type, mesh);
  const kvHeads = localSizes(node.operands[1].type, mesh)[2];
  const { causal, window, scale, softcap } = node.attrs as {
    causal: boolean;
    window: number;
    scale: number;
    softcap: number;
  };
  return `{${args(batch, sequence, sequence, heads, kvHeads, width, causal, window, floatLiteral(scale), floatLiteral(softcap))}}`;
}

const ownKernels: Pick<Kernels, OwnKernel> = {
  matmul: {
    emit: (node, { inputs, outputs, mesh, call }) =>
      call("matmul", ...inputs, ...outputs, ...productShape(node, mesh)),
  },
  matmul_add: {
    emit(node, context) {
      requireInPlace(node, context);
      const [left, right] = context.inputs;
      return context.call("matmul", left, right, ...context.outputs, ...productShape(node, context.mesh));
    },
  },
  attention: {
    emit(node, { inputs, outputs, mesh, workspace, workspaceBytes, threads, call }) {
      const shape = attentionShape(node, mesh);
      const check = `static_assert(attention_workspace_bytes(${shape}, ${threads}) <= ${workspaceBytes});`;
      return `${check} ${call("attention", shape, ...inputs, ...outputs, workspace)}`;
    },
  },
  attention_grad: {
    emit(node, { inputs, outputs, mesh, workspace, workspaceBytes, threads, call }) {
      const shape = attentionShape(node, mesh);
      const type = `ithaca::DType::${node.operands[0].type.dtype}`;
      const check = `static_assert(attention_grad_workspace_bytes(${shape}, ${threads}, ${type}) <= ${workspaceBytes});`;
      return `${check} ${call("attention_grad", shape, ...inputs, ...outputs, workspace)}`;
    },
  },
};

export const kernels: Kernels = { ...sharedKernels, ...ownKernels };
