/** @file The kernels that the CPU target writes itself: products by oneDNN or AMX, attention with its workspace, the file. */
import {
  attentionShape,
  fileKernels,
  type Kernels,
  type OwnKernel,
  productShape,
  requireInPlace,
  sharedKernels,
} from "../kernels.ts";

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
      const { sizes, shape } = attentionShape(node, mesh);
      const check = `static_assert(attention_workspace_bytes(${sizes}, ${threads}) <= ${workspaceBytes});`;
      return `${check} ${call("attention", shape, ...inputs, ...outputs, workspace)}`;
    },
  },
  attention_grad: {
    emit(node, { inputs, outputs, mesh, workspace, workspaceBytes, threads, call }) {
      const { sizes, shape } = attentionShape(node, mesh);
      const type = `ithaca::DType::${node.operands[0].type.dtype}`;
      const check = `static_assert(attention_grad_workspace_bytes(${sizes}, ${threads}, ${type}) <= ${workspaceBytes});`;
      return `${check} ${call("attention_grad", shape, ...inputs, ...outputs, workspace)}`;
    },
  },
  ...fileKernels("spill", "fetch"),
};

export const kernels: Kernels = { ...sharedKernels, ...ownKernels };
