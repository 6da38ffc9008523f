/** @file The kernels that the CPU target writes itself: products by oneDNN or AMX, and attention with its workspace. */
import type { Node } from "../../ir/graph.ts";
import { localSizes, type Mesh } from "../../ir/type.ts";
import { floatLiteral } from "../elementwise.ts";
import {
  args,
  type Kernels,
  type OwnKernel,
  partOf,
  productShape,
  requireInPlace,
  sharedKernels,
} from "../kernels.ts";

/** AttentionShape: what workspaces depend on, and with the position of the rank's first query. */
function attentionShape(node: Node, mesh: Mesh): { sizes: string; shape: string } {
  const [{ type: q }, { type: k }] = node.operands;
  const [batch, queries, heads, width] = localSizes(q, mesh);
  const [, keys, kvHeads] = localSizes(k, mesh);
  const { causal, window, scale, softcap } = node.attrs as {
    causal: boolean;
    window: number;
    scale: number;
    softcap: number;
  };
  const options = args(causal, window, floatLiteral(scale), floatLiteral(softcap));
  const sizes = args(batch, queries, keys, heads, kvHeads, width, options);
  const { axes } = q.dims[1];
  const offset = axes.length > 0 ? `, (${partOf(axes, mesh)}) * ${queries}` : "";
  return { sizes: `{${sizes}}`, shape: `{${sizes}${offset}}` };
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
};

export const kernels: Kernels = { ...sharedKernels, ...ownKernels };
