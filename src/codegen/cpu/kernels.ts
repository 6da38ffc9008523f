/**
 * @file The CPU on one page: how each op becomes a call of a kernel in runtime/kernels/cpu.
 *
 * The table is exhaustive by its type: an op without a kernel does not compile. Sizes are those of one rank's share.
 * It is longer than other files here because it is one table.
 */
import type { Node } from "../../ir/graph.ts";
import type { OpName } from "../../ir/ops/index.ts";
import { type RopeAttrs, ropeFrequencies } from "../../ir/ops/position.ts";
import type { NodeOf } from "../../ir/rewrite.ts";
import { DTYPE_BYTES, localSizes, type Mesh, type TensorType } from "../../ir/type.ts";
import { floatLiteral, loopSizes } from "./elementwise.ts";
import { attentionGradWorkspaceBytes, attentionWorkspaceBytes, rowBlocks } from "./workspace.ts";

/** What a kernel may use to write its call: pointers as C++ expressions, and constants for the file. */
export interface EmitContext {
  readonly mesh: Mesh;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly workspace: string;
  readonly workspaceBytes: number;
  /** OpenMP threads per rank for which workspaces were planned. */
  readonly threads: number;
  /** Names a constant array of floats that the generated file holds; equal arrays share a name. */
  floats(values: readonly number[]): string;
  /** Names the generated loop of an elementwise or fused node. */
  loop(node: Node): string;
}

export interface Kernel<K extends OpName> {
  /** One C++ statement. */
  emit(node: NodeOf<K>, context: EmitContext): string;
  readonly workspaceBytes?: (node: NodeOf<K>, mesh: Mesh, threads: number) => number;
}

/** A kernel that looks at no attribute, and so serves many ops. */
interface AnyKernel {
  emit(node: Node, context: EmitContext): string;
}

const product = (sizes: readonly number[]): number => sizes.reduce((total, size) => total * size, 1);
const args = (...parts: readonly (string | number | boolean)[]): string => parts.join(", ");
const list = (values: readonly number[]): string => `{${values.join(", ")}}`;

/** All but the last dimension as rows, the last as columns. */
function rowsAndColumns(type: TensorType, mesh: Mesh): [rows: number, columns: number] {
  const sizes = localSizes(type, mesh);
  return [product(sizes.slice(0, -1)), sizes[sizes.length - 1]];
}

/** A loop that codegen generates. */
const elementwise: AnyKernel = {
  emit(node, { inputs, outputs, mesh, loop }) {
    const { rows, columns } = loopSizes(node, mesh);
    return `${loop(node)}(${args(...inputs, ...outputs, rows, columns)});`;
  },
};

/** The same bytes under another type: there is nothing to run. */
const alias: AnyKernel = { emit: () => "" };

function unsupported(why: string): AnyKernel {
  return {
    emit(node: Node) {
      throw new Error(`${node.op}: ${why}`);
    },
  };
}

/** The communicator of a mesh axis, by its place in the mesh. */
function commOf(node: Node, mesh: Mesh): string {
  return `*rank.comms[${[...mesh.keys()].indexOf(node.attrs.axis as string)}]`;
}

const bytesOfType = (type: TensorType, mesh: Mesh): number =>
  product(localSizes(type, mesh)) * DTYPE_BYTES[type.dtype];

/** The rank's share before dimension `dim`, the dimension, and behind it. */
function around(type: TensorType, dim: number, mesh: Mesh): [outer: number, size: number, inner: number] {
  const sizes = localSizes(type, mesh);
  return [product(sizes.slice(0, dim)), sizes[dim], product(sizes.slice(dim + 1))];
}

/** A copy of all bytes, between memories or within one. */
const copy: AnyKernel = {
  emit: (node: Node, { inputs: [from], outputs: [to], mesh }) =>
    `std::memcpy(${args(to, from, product(localSizes(node.results[0].type, mesh)) * DTYPE_BYTES[node.results[0].type.dtype])});`,
};

const strides = (sizes: readonly number[]): number[] => sizes.map((_, i) => product(sizes.slice(i + 1)));

/** A copy between strided layouts. */
function stridedCopy(
  from: string,
  fromStrides: readonly number[],
  to: string,
  toStrides: readonly number[],
  sizes: readonly number[],
  bytes: number,
): string {
  return `copy_strided(${args(from, `dims${list(fromStrides)}`, to, `dims${list(toStrides)}`, `dims${list(sizes)}`, sizes.length, bytes)});`;
}

/** `pointer` moved on by `elements`. */
const moved = (pointer: string, elements: number): string =>
  elements === 0 ? pointer : `${pointer} + ${elements}`;

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

export const kernels: { readonly [K in OpName]: Kernel<K> } = {
  add: elementwise,
  sub: elementwise,
  mul: elementwise,
  div: elementwise,
  minimum: elementwise,
  maximum: elementwise,
  neg: elementwise,
  exp: elementwise,
  log: elementwise,
  sqrt: elementwise,
  tanh: elementwise,
  sigmoid: elementwise,
  scale: elementwise,
  cast: elementwise,
  relu: elementwise,
  relu_grad: elementwise,
  silu: elementwise,
  silu_grad: elementwise,
  gelu: elementwise,
  gelu_grad: elementwise,
  swiglu: elementwise,
  swiglu_grad_gate: elementwise,
  swiglu_grad_up: elementwise,
  fused: elementwise,

  matmul: {
    emit({ operands, attrs, results }, { inputs, outputs, mesh }) {
      const { transpose_a, transpose_b } = attrs;
      const [rows, last] = rowsAndColumns(operands[0].type, mesh);
      const columns = localSizes(results[0].type, mesh).at(-1) as number;
      const [m, k] = transpose_a ? [last, rows] : [rows, last];
      return `matmul(${args(...inputs, ...outputs, m, columns, k, transpose_a, transpose_b, false)});`;
    },
  },
  matmul_add: {
    emit({ operands: [a, b] }, { inputs, outputs, mesh }) {
      const [left, right, before] = inputs;
      if (before !== outputs[0]) throw new Error("matmul_add is not in place");
      const [rows, m] = rowsAndColumns(a.type, mesh);
      const n = localSizes(b.type, mesh).at(-1) as number;
      return `matmul(${args(left, right, ...outputs, m, n, rows, true, false, true)});`;
    },
  },
  embedding: {
    emit({ operands: [ids, table] }, { inputs, outputs, mesh }) {
      const [vocabulary, columns] = localSizes(table.type, mesh);
      return `embedding(${args(...inputs, ...outputs, product(localSizes(ids.type, mesh)), columns, vocabulary)});`;
    },
  },
  embedding_grad: {
    emit({ operands: [, dy], attrs }, { inputs, outputs, mesh }) {
      return `embedding_grad(${args(...inputs, ...outputs, ...rowsAndColumns(dy.type, mesh), attrs.vocabulary, false)});`;
    },
  },

  sum: {
    emit({ operands: [x], attrs: { dims } }, { inputs, outputs, mesh, workspace }) {
      const sizes = localSizes(x.type, mesh);
      // Leading dimensions are rows to add up; any other choice takes the general loop.
      if (dims.length > 0 && dims.every((dim) => dim < dims.length)) {
        const columns = product(sizes.slice(dims.length));
        return `sum_rows(${args(...inputs, ...outputs, product(sizes) / columns, columns, workspace)});`;
      }
      const mask = dims.reduce((bits, dim) => bits | (1 << dim), 0);
      return `reduce_sum(${args(...inputs, `dims${list(sizes)}`, sizes.length, mask, ...outputs)});`;
    },
    workspaceBytes({ operands: [x], attrs: { dims } }, mesh) {
      const sizes = localSizes(x.type, mesh);
      const columns = product(sizes.slice(dims.length));
      return (rowBlocks(product(sizes) / columns) + 1) * columns * 4;
    },
  },
  broadcast: {
    emit({ operands: [x], attrs: { dims }, results: [y] }, { inputs, outputs, mesh }) {
      const sizes = localSizes(y.type, mesh);
      const own = strides(localSizes(x.type, mesh));
      let next = 0;
      const from = sizes.map((_, i) => (dims.includes(i) ? 0 : own[next++]));
      return stridedCopy(inputs[0], from, outputs[0], strides(sizes), sizes, DTYPE_BYTES[x.type.dtype]);
    },
  },
  sum_squares: {
    emit: ({ operands: [x] }, { inputs, outputs, mesh, workspace }) =>
      `sum_squares(${args(...inputs, ...outputs, product(localSizes(x.type, mesh)), workspace)});`,
    workspaceBytes: () => 256 * 8,
  },

  constant: {
    emit({ results: [y], attrs: { value } }, { outputs, mesh }) {
      const literal =
        y.type.dtype === "i32"
          ? String(value)
          : y.type.dtype === "bf16"
            ? `to_bf16(${floatLiteral(value)})`
            : floatLiteral(value);
      return `std::fill_n(${args(outputs[0], product(localSizes(y.type, mesh)), literal)});`;
    },
  },
  split_heads: alias,
  merge_heads: alias,
  transpose: {
    emit({ operands: [x], attrs: { order }, results: [y] }, { inputs, outputs, mesh }) {
      const own = strides(localSizes(x.type, mesh));
      const sizes = localSizes(y.type, mesh);
      return stridedCopy(
        inputs[0],
        order.map((at) => own[at]),
        outputs[0],
        strides(sizes),
        sizes,
        DTYPE_BYTES[x.type.dtype],
      );
    },
  },
  slice: {
    emit({ operands: [x], attrs: { dim, start }, results: [y] }, { inputs, outputs, mesh }) {
      const [own, sizes] = [strides(localSizes(x.type, mesh)), localSizes(y.type, mesh)];
      return stridedCopy(
        moved(inputs[0], start * own[dim]),
        own,
        outputs[0],
        strides(sizes),
        sizes,
        DTYPE_BYTES[x.type.dtype],
      );
    },
  },
  pad: {
    emit({ operands: [x], attrs: { dim, start }, results: [y] }, { inputs, outputs, mesh }) {
      const [own, sizes] = [localSizes(x.type, mesh), localSizes(y.type, mesh)];
      const to = strides(sizes);
      const bytes = DTYPE_BYTES[x.type.dtype];
      const clear = `std::memset(${args(outputs[0], 0, product(sizes) * bytes)});`;
      return `${clear} ${stridedCopy(inputs[0], strides(own), moved(outputs[0], start * to[dim]), to, own, bytes)}`;
    },
  },
  concat: {
    emit({ operands, attrs: { dim }, results: [y] }, { inputs, outputs, mesh }) {
      const to = strides(localSizes(y.type, mesh));
      let start = 0;
      return operands
        .map(({ type }, i) => {
          const own = localSizes(type, mesh);
          start += own[dim];
          return stridedCopy(
            inputs[i],
            strides(own),
            moved(outputs[0], (start - own[dim]) * to[dim]),
            to,
            own,
            DTYPE_BYTES[type.dtype],
          );
        })
        .join(" ");
    },
  },

  repeat_interleave: {
    emit({ operands: [x], attrs: { dim, times } }, { inputs, outputs, mesh }) {
      const sizes = localSizes(x.type, mesh);
      const [outer, inner] = [product(sizes.slice(0, dim + 1)), product(sizes.slice(dim + 1))];
      const all = [outer, times, inner];
      return stridedCopy(inputs[0], [inner, 0, 1], outputs[0], strides(all), all, DTYPE_BYTES[x.type.dtype]);
    },
  },
  sum_groups: {
    emit({ operands: [x], attrs: { dim, times } }, { inputs, outputs, mesh }) {
      const sizes = localSizes(x.type, mesh);
      const [outer, inner] = [product(sizes.slice(0, dim + 1)) / times, product(sizes.slice(dim + 1))];
      return `reduce_sum(${args(...inputs, `dims${list([outer, times, inner])}`, 3, 2, ...outputs)});`;
    },
  },

  rms_norm: {
    emit: ({ operands: [x], attrs: { epsilon } }, { inputs, outputs, mesh }) =>
      `rms_norm(${args(...inputs, ...outputs, ...rowsAndColumns(x.type, mesh), floatLiteral(epsilon))});`,
  },
  rms_norm_grad: {
    emit: ({ operands: [x], attrs: { epsilon } }, { inputs, outputs, mesh, workspace }) =>
      `rms_norm_grad(${args(...inputs, ...outputs, ...rowsAndColumns(x.type, mesh), floatLiteral(epsilon), workspace)});`,
    workspaceBytes({ operands: [x] }, mesh) {
      const [rows, columns] = rowsAndColumns(x.type, mesh);
      return rowBlocks(rows) * columns * 4;
    },
  },
  rope_table: {
    emit({ attrs, results: [cos] }, { inputs, outputs, mesh, floats }) {
      const frequencies = floats(ropeFrequencies(attrs as unknown as RopeAttrs));
      return `rope_table(${args(inputs[0], frequencies, ...outputs, ...rowsAndColumns(cos.type, mesh), "1.0f")});`;
    },
  },
  rope: {
    emit({ operands: [x], attrs: { inverse } }, { inputs, outputs, mesh }) {
      const sizes = localSizes(x.type, mesh);
      return `rope(${args(...inputs, ...outputs, product(sizes.slice(0, -2)), ...sizes.slice(-2), inverse)});`;
    },
  },
  attention: {
    emit(node, { inputs, outputs, mesh, workspace, workspaceBytes, threads }) {
      const shape = attentionShape(node, mesh);
      const check = `static_assert(attention_workspace_bytes(${shape}, ${threads}) <= ${workspaceBytes});`;
      return `${check} attention(${args(shape, ...inputs, ...outputs, workspace)});`;
    },
    workspaceBytes: attentionWorkspaceBytes,
  },
  attention_grad: {
    emit(node, { inputs, outputs, mesh, workspace, workspaceBytes, threads }) {
      const shape = attentionShape(node, mesh);
      const type = `ithaca::DType::${node.operands[0].type.dtype}`;
      const check = `static_assert(attention_grad_workspace_bytes(${shape}, ${threads}, ${type}) <= ${workspaceBytes});`;
      return `${check} attention_grad(${args(shape, ...inputs, ...outputs, workspace)});`;
    },
    workspaceBytes: attentionGradWorkspaceBytes,
  },
  cross_entropy: {
    emit: ({ operands: [logits] }, { inputs, outputs, mesh, workspace }) =>
      `cross_entropy(${args(...inputs, ...outputs, ...rowsAndColumns(logits.type, mesh), workspace)});`,
    workspaceBytes: ({ operands: [logits] }, mesh) => rowsAndColumns(logits.type, mesh)[0] * 4,
  },
  cross_entropy_grad: {
    emit: ({ operands: [logits] }, { inputs, outputs, mesh }) =>
      `cross_entropy_grad(${args(...inputs, ...outputs, ...rowsAndColumns(logits.type, mesh))});`,
  },
  adamw: {
    emit({ operands: [param], attrs }, { inputs, outputs, mesh }) {
      const [weight, grad, m, v, rate, step, scale] = inputs;
      if (outputs.join() !== [weight, m, v].join())
        throw new Error(`adamw of %${param.name} is not in place`);
      const { beta1, beta2, epsilon, weight_decay } = attrs;
      const count = product(localSizes(param.type, mesh));
      return `adamw(${args(weight, grad, m, v, count, rate, step, scale, beta1, beta2, epsilon, weight_decay)});`;
    },
  },

  all_to_all: {
    emit(node, { inputs, outputs, mesh, workspace }) {
      const {
        operands: [x],
        results: [y],
        attrs: { from, to },
      } = node;
      const [first, second] = from < to ? [from, to] : [to, from];
      // Of the two dimensions each is whole on one side: the shape takes the part of either.
      const sizes = localSizes(x.type, mesh).map((size, i) => Math.min(size, localSizes(y.type, mesh)[i]));
      const parts = [
        product(sizes.slice(0, first)),
        sizes[first],
        product(sizes.slice(first + 1, second)),
        sizes[second],
        product(sizes.slice(second + 1)),
      ];
      const shape = `{${args(...parts, DTYPE_BYTES[x.type.dtype])}}`;
      return `all_to_all(${args(commOf(node, mesh), ...inputs, ...outputs, shape, from < to, workspace)});`;
    },
    workspaceBytes: ({ operands: [x] }, mesh) => 2 * bytesOfType(x.type, mesh),
  },
  all_gather: {
    emit(node, { inputs, outputs, mesh, workspace }) {
      const [x] = node.operands;
      const { dim } = node.attrs;
      const parts = around(x.type, dim, mesh);
      return `all_gather(${args(commOf(node, mesh), ...inputs, ...outputs, ...parts, DTYPE_BYTES[x.type.dtype], workspace)});`;
    },
    workspaceBytes: ({ results: [y] }, mesh) => bytesOfType(y.type, mesh),
  },
  reduce_scatter: {
    emit(node, { inputs, outputs, mesh, workspace }) {
      const [y] = node.results;
      const { dim } = node.attrs;
      const parts = around(y.type, dim, mesh);
      return `reduce_scatter(${args(commOf(node, mesh), ...inputs, ...outputs, ...parts, `ithaca::DType::${y.type.dtype}`, workspace)});`;
    },
    workspaceBytes: ({ operands: [x] }, mesh) => bytesOfType(x.type, mesh),
  },
  all_reduce: {
    emit(node, { inputs, outputs, mesh }) {
      const [x] = node.operands;
      const count = product(localSizes(x.type, mesh));
      return `all_reduce(${args(commOf(node, mesh), ...inputs, ...outputs, count, `ithaca::DType::${x.type.dtype}`)});`;
    },
  },
  offload: copy,
  reload: copy,
  repeat: unsupported("loops are laid out by the schedule"),
  tile: unsupported("loops are laid out by the schedule"),
  checkpoint: unsupported("its body is laid out by the schedule"),
};
