/** @file The kernels that the CPU target writes itself: products and attention with their workspaces, the file. */
import {
  args,
  attentionShape,
  type EmitContext,
  fileKernels,
  type Kernels,
  type OwnKernel,
  type ProductNode,
  productShape,
  requireInPlace,
  sharedKernels,
} from "../kernels.ts";

function emitProduct(
  node: ProductNode,
  { inputs: [left, right], outputs: [to], mesh, workspace, workspaceBytes, threads, call }: EmitContext,
): string {
  const shape = productShape(node, mesh);
  const types = [node.operands[0], node.results[0]].map(({ type }) => `ithaca::DType::${type.dtype}`);
  const needed = `matmul_workspace_bytes(${args(...shape.slice(0, 3), threads, ...types)})`;
  return `static_assert(${needed} <= ${workspaceBytes}); ${call("matmul", left, right, to, ...shape, workspace)}`;
}

const ownKernels: Pick<Kernels, OwnKernel> = {
  matmul: { emit: emitProduct },
  matmul_add: {
    emit(node, context) {
      requireInPlace(node, context);
      return emitProduct(node, context);
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
