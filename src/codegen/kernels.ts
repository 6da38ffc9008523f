/**
 * @file How each op becomes a call of a kernel: what the targets share, on one page.
 *
 * Kernels have the same name and the same operands on every target (runtime/kernels); a target adds what its machine
 * needs besides, such as a stream. With the few kernels that a target writes itself the table is exhaustive by its
 * type: an op without a kernel does not compile. Sizes are those of one rank's share.
 */
import type { Node } from "../ir/graph.ts";
import type { AttentionAttrs } from "../ir/ops/attention.ts";
import type { OpName } from "../ir/ops/index.ts";
import { type RopeAttrs, ropeFrequencies } from "../ir/ops/position.ts";
import type { NodeOf } from "../ir/rewrite.ts";
import { DTYPE_BYTES, localSizes, type Mesh, type TensorType } from "../ir/type.ts";
import { floatLiteral, loopSizes } from "./elementwise.ts";

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
  /** The statement that calls a kernel of the target, where the step's lane runs. */
  call(kernel: string, ...operands: readonly (string | number | boolean)[]): string;
  /** The collectives of the mesh axis with this number. */
  comm(axis: number): string;
}

export interface Kernel<K extends OpName> {
  /** C++ statements on one line. */
  emit(node: NodeOf<K>, context: EmitContext): string;
}

export type Kernels = { readonly [K in OpName]: Kernel<K> };

/** Scratch memory in bytes that a kernel of a target needs, for those that need any. */
export type Workspaces = {
  readonly [K in OpName]?: (node: NodeOf<K>, mesh: Mesh, threads: number) => number;
};

/** A kernel that looks at no attribute, and so serves many ops. */
interface AnyKernel {
  emit(node: Node, context: EmitContext): string;
}

export const product = (sizes: readonly number[]): number => sizes.reduce((total, size) => total * size, 1);
export const args = (...parts: readonly (string | number | boolean)[]): string => parts.join(", ");
const list = (values: readonly number[]): string => `{${values.join(", ")}}`;

/** All but the last dimension as rows, the last as columns. */
export function rowsAndColumns(type: TensorType, mesh: Mesh): [rows: number, columns: number] {
  const sizes = localSizes(type, mesh);
  return [product(sizes.slice(0, -1)), sizes[sizes.length - 1]];
}

/** A loop that codegen generates. */
const elementwise: AnyKernel = {
  emit(node, { inputs, outputs, mesh, loop, call }) {
    const { rows, columns } = loopSizes(node, mesh);
    return call(loop(node), ...inputs, ...outputs, rows, columns);
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

/** The number of a collective's mesh axis. */
function axisOf(node: Node, mesh: Mesh): number {
  return [...mesh.keys()].indexOf(node.attrs.axis as string);
}

/** Which part of a dimension split over `axes` a rank holds, as a C++ expression of its number. */
export function partOf(axes: readonly string[], mesh: Mesh): string {
  const degrees = [...mesh.values()];
  return axes.reduce((part, axis) => {
    const at = [...mesh.keys()].indexOf(axis);
    const inner = product(degrees.slice(at + 1));
    const coordinate = `rank.index${inner === 1 ? "" : ` / ${inner}`} % ${degrees[at]}`;
    return part === "" ? coordinate : `(${part}) * ${degrees[at]} + ${coordinate}`;
  }, "");
}

export const bytesOfType = (type: TensorType, mesh: Mesh): number =>
  product(localSizes(type, mesh)) * DTYPE_BYTES[type.dtype];

/** The rank's share before dimension `dim`, the dimension, and behind it. */
function around(type: TensorType, dim: number, mesh: Mesh): [outer: number, size: number, inner: number] {
  const sizes = localSizes(type, mesh);
  return [product(sizes.slice(0, dim)), sizes[dim], product(sizes.slice(dim + 1))];
}

/** Operand `index` of an all_to_all as exchange.h sees it: outer, major, middle, minor, inner. */
function exchangeShape({ operands, results, attrs }: Node, index: number, mesh: Mesh): number[] {
  const { from, to } = attrs as { from: number; to: number };
  const [first, second] = from < to ? [from, to] : [to, from];
  const after = localSizes(results[index].type, mesh);
  // Of the two dimensions each is whole on one side: the shape takes the part of either.
  const sizes = localSizes(operands[index].type, mesh).map((size, i) => Math.min(size, after[i]));
  return [
    product(sizes.slice(0, first)),
    sizes[first],
    product(sizes.slice(first + 1, second)),
    sizes[second],
    product(sizes.slice(second + 1)),
  ];
}

/** Scratch of collectives: what does not lie together is packed in front of an exchange, or unpacked behind it. */
export const exchangeWorkspaces: Workspaces = {
  all_to_all: (node, mesh) =>
    node.operands.reduce((total, { type }, i) => {
      const [outer, major, middle] = exchangeShape(node, i, mesh);
      return total + (Number(outer > 1) + Number(outer * major * middle > 1)) * bytesOfType(type, mesh);
    }, 0),
  all_gather: ({ operands: [x], attrs: { dim }, results: [y] }, mesh) =>
    around(x.type, dim, mesh)[0] > 1 ? bytesOfType(y.type, mesh) : 0,
  reduce_scatter: ({ operands: [x], attrs: { dim } }, mesh) =>
    around(x.type, dim, mesh)[0] > 1 ? bytesOfType(x.type, mesh) : 0,
};

/** A copy of all bytes, between memories or within one. */
const copy: AnyKernel = {
  emit: (node: Node, { inputs: [from], outputs: [to], mesh, call }) =>
    call("copy_bytes", from, to, bytesOfType(node.results[0].type, mesh)),
};

const strides = (sizes: readonly number[]): number[] => sizes.map((_, i) => product(sizes.slice(i + 1)));

/** A copy between strided layouts. */
function stridedCopy(
  call: EmitContext["call"],
  from: string,
  fromStrides: readonly number[],
  to: string,
  toStrides: readonly number[],
  sizes: readonly number[],
  bytes: number,
): string {
  return call(
    "copy_strided",
    from,
    `dims${list(fromStrides)}`,
    to,
    `dims${list(toStrides)}`,
    `dims${list(sizes)}`,
    sizes.length,
    bytes,
  );
}

/** `pointer` moved on by `elements`. */
const moved = (pointer: string, elements: number): string =>
  elements === 0 ? pointer : `${pointer} + ${elements}`;

/** Kernels that every target writes itself. */
export type OwnKernel = "matmul" | "matmul_add" | "attention" | "attention_grad" | "spill" | "fetch";

/** Copies between host memory and the rank's file, by the functions of these names. */
export const fileKernels = (spill: string, fetch: string): Pick<Kernels, "spill" | "fetch"> => ({
  spill: {
    emit: ({ results: [y] }, { inputs: [from], outputs: [at], mesh, call }) =>
      call(spill, from, "*rank.file", at, bytesOfType(y.type, mesh)),
  },
  fetch: {
    emit: ({ results: [y] }, { inputs: [at], outputs: [to], mesh, call }) =>
      call(fetch, "*rank.file", at, to, bytesOfType(y.type, mesh)),
  },
});

export type ProductNode = NodeOf<"matmul"> | NodeOf<"matmul_add">;

/** What a product is called with behind its three matrices: M, N, K, which operand lies transposed, whether to add. */
export function productShape(
  { op, operands: [a, b], attrs }: ProductNode,
  mesh: Mesh,
): readonly (number | boolean)[] {
  const adds = op === "matmul_add";
  const transposeA = adds || attrs.transpose_a === true;
  const transposeB = !adds && attrs.transpose_b === true;
  const [rows, last] = rowsAndColumns(a.type, mesh);
  const [m, k] = transposeA ? [last, rows] : [rows, last];
  const n = transposeB ? rowsAndColumns(b.type, mesh)[0] : (localSizes(b.type, mesh).at(-1) as number);
  return [m, n, k, transposeA, transposeB, adds];
}

/**
 * AttentionShape in braces: `sizes` is what workspaces depend on, a constant; `shape` has besides the position of the
 * rank's first query, where queries are split.
 */
export function attentionShape(
  { operands: [{ type: q }, { type: k }], attrs }: Node,
  mesh: Mesh,
): { readonly sizes: string; readonly shape: string } {
  const [batch, queries, heads, width] = localSizes(q, mesh);
  const [, keys, keyHeads] = localSizes(k, mesh);
  const { causal, window, scale, softcap } = attrs as unknown as AttentionAttrs;
  const options = args(causal, window, floatLiteral(scale), floatLiteral(softcap));
  const sizes = args(batch, queries, keys, heads, keyHeads, width, options);
  const { axes } = q.dims[1];
  const offset = axes.length > 0 ? `, (${partOf(axes, mesh)}) * ${queries}` : "";
  return { sizes: `{${sizes}}`, shape: `{${sizes}${offset}}` };
}

/** Throws unless the sum that a product adds to is where the result goes. */
export function requireInPlace({ op }: Node, { inputs, outputs }: EmitContext): void {
  if (inputs[2] !== outputs[0]) throw new Error(`${op} is not in place`);
}

export const sharedKernels: Omit<Kernels, OwnKernel> = {
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

  embedding: {
    emit({ operands: [ids, table] }, { inputs, outputs, mesh, call }) {
      const [vocabulary, columns] = localSizes(table.type, mesh);
      return call(
        "embedding",
        ...inputs,
        ...outputs,
        product(localSizes(ids.type, mesh)),
        columns,
        vocabulary,
      );
    },
  },
  embedding_grad: {
    emit({ operands: [, dy], attrs }, { inputs, outputs, mesh, call }) {
      return call(
        "embedding_grad",
        ...inputs,
        ...outputs,
        ...rowsAndColumns(dy.type, mesh),
        attrs.vocabulary,
        false,
      );
    },
  },

  sum: {
    emit({ operands: [x], attrs: { dims } }, { inputs, outputs, mesh, workspace, call }) {
      const sizes = localSizes(x.type, mesh);
      // Leading dimensions are rows to add up; any other choice takes the general loop.
      if (dims.length > 0 && dims.every((dim) => dim < dims.length)) {
        const columns = product(sizes.slice(dims.length));
        return call("sum_rows", ...inputs, ...outputs, product(sizes) / columns, columns, workspace);
      }
      const mask = dims.reduce((bits, dim) => bits | (1 << dim), 0);
      return call("reduce_sum", ...inputs, `dims${list(sizes)}`, sizes.length, mask, ...outputs);
    },
  },
  broadcast: {
    emit({ operands: [x], attrs: { dims }, results: [y] }, { inputs, outputs, mesh, call }) {
      const sizes = localSizes(y.type, mesh);
      const own = strides(localSizes(x.type, mesh));
      let next = 0;
      const from = sizes.map((_, i) => (dims.includes(i) ? 0 : own[next++]));
      return stridedCopy(call, inputs[0], from, outputs[0], strides(sizes), sizes, DTYPE_BYTES[x.type.dtype]);
    },
  },
  sum_squares: {
    emit: ({ operands: [x] }, { inputs, outputs, mesh, workspace, call }) =>
      call("sum_squares", ...inputs, ...outputs, product(localSizes(x.type, mesh)), workspace),
  },

  constant: {
    emit({ results: [y], attrs: { value } }, { outputs, mesh, call }) {
      const literal =
        y.type.dtype === "i32"
          ? String(value)
          : y.type.dtype === "bf16"
            ? `to_bf16(${floatLiteral(value)})`
            : floatLiteral(value);
      return call("fill", outputs[0], product(localSizes(y.type, mesh)), literal);
    },
  },
  split_heads: alias,
  merge_heads: alias,
  transpose: {
    emit({ operands: [x], attrs: { order }, results: [y] }, { inputs, outputs, mesh, call }) {
      const own = strides(localSizes(x.type, mesh));
      const sizes = localSizes(y.type, mesh);
      return stridedCopy(
        call,
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
    emit({ operands: [x], attrs: { dim, start }, results: [y] }, { inputs, outputs, mesh, call }) {
      const [own, sizes] = [strides(localSizes(x.type, mesh)), localSizes(y.type, mesh)];
      return stridedCopy(
        call,
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
    emit({ operands: [x], attrs: { dim, start }, results: [y] }, { inputs, outputs, mesh, call }) {
      const [own, sizes] = [localSizes(x.type, mesh), localSizes(y.type, mesh)];
      const to = strides(sizes);
      const bytes = DTYPE_BYTES[x.type.dtype];
      const clear = call("clear_bytes", outputs[0], product(sizes) * bytes);
      return `${clear} ${stridedCopy(call, inputs[0], strides(own), moved(outputs[0], start * to[dim]), to, own, bytes)}`;
    },
  },
  concat: {
    emit({ operands, attrs: { dim }, results: [y] }, { inputs, outputs, mesh, call }) {
      const to = strides(localSizes(y.type, mesh));
      let start = 0;
      return operands
        .map(({ type }, i) => {
          const own = localSizes(type, mesh);
          start += own[dim];
          return stridedCopy(
            call,
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
    emit({ operands: [x], attrs: { dim, times } }, { inputs, outputs, mesh, call }) {
      const sizes = localSizes(x.type, mesh);
      const [outer, inner] = [product(sizes.slice(0, dim + 1)), product(sizes.slice(dim + 1))];
      const all = [outer, times, inner];
      return stridedCopy(
        call,
        inputs[0],
        [inner, 0, 1],
        outputs[0],
        strides(all),
        all,
        DTYPE_BYTES[x.type.dtype],
      );
    },
  },
  sum_groups: {
    emit({ operands: [x], attrs: { dim, times } }, { inputs, outputs, mesh, call }) {
      const sizes = localSizes(x.type, mesh);
      const [outer, inner] = [product(sizes.slice(0, dim + 1)) / times, product(sizes.slice(dim + 1))];
      return call("reduce_sum", ...inputs, `dims${list([outer, times, inner])}`, 3, 2, ...outputs);
    },
  },

  rms_norm: {
    emit: ({ operands: [x], attrs: { epsilon } }, { inputs, outputs, mesh, call }) =>
      call("rms_norm", ...inputs, ...outputs, ...rowsAndColumns(x.type, mesh), floatLiteral(epsilon)),
  },
  rms_norm_grad: {
    emit: ({ operands: [x], attrs: { epsilon } }, { inputs, outputs, mesh, workspace, call }) =>
      call(
        "rms_norm_grad",
        ...inputs,
        ...outputs,
        ...rowsAndColumns(x.type, mesh),
        floatLiteral(epsilon),
        workspace,
      ),
  },
  rope_table: {
    emit({ attrs, results: [cos] }, { inputs, outputs, mesh, floats, call }) {
      const frequencies = floats(ropeFrequencies(attrs as unknown as RopeAttrs));
      return call(
        "rope_table",
        inputs[0],
        frequencies,
        ...outputs,
        ...rowsAndColumns(cos.type, mesh),
        "1.0f",
      );
    },
  },
  rope: {
    emit({ operands: [x], attrs: { inverse } }, { inputs, outputs, mesh, call }) {
      const sizes = localSizes(x.type, mesh);
      return call("rope", ...inputs, ...outputs, product(sizes.slice(0, -2)), ...sizes.slice(-2), inverse);
    },
  },
  cross_entropy: {
    emit: ({ operands: [logits] }, { inputs, outputs, mesh, workspace, call }) =>
      call("cross_entropy", ...inputs, ...outputs, ...rowsAndColumns(logits.type, mesh), workspace),
  },
  cross_entropy_grad: {
    emit: ({ operands: [logits] }, { inputs, outputs, mesh, call }) =>
      call("cross_entropy_grad", ...inputs, ...outputs, ...rowsAndColumns(logits.type, mesh)),
  },
  adamw: {
    emit({ operands: [param], attrs }, { inputs, outputs, mesh, call }) {
      const [weight, grad, m, v, rate, step, scale] = inputs;
      if (outputs.join() !== [weight, m, v].join())
        throw new Error(`adamw of %${param.name} is not in place`);
      const { beta1, beta2, epsilon, weight_decay } = attrs;
      const count = product(localSizes(param.type, mesh));
      return call("adamw", weight, grad, m, v, count, rate, step, scale, beta1, beta2, epsilon, weight_decay);
    },
  },

  all_to_all: {
    emit(node, { inputs, outputs, mesh, workspace, call, comm }) {
      const { from, to } = node.attrs;
      const tensors = node.operands.map(({ type }, i) => {
        const shape = list([...exchangeShape(node, i, mesh), DTYPE_BYTES[type.dtype]]);
        return `{${args(inputs[i], outputs[i], shape)}}`;
      });
      return call("all_to_all", comm(axisOf(node, mesh)), `{${args(...tensors)}}`, from < to, workspace);
    },
  },
  all_gather: {
    emit(node, { inputs, outputs, mesh, workspace, call, comm }) {
      const [x] = node.operands;
      const { dim } = node.attrs;
      const parts = around(x.type, dim, mesh);
      return call(
        "all_gather",
        comm(axisOf(node, mesh)),
        ...inputs,
        ...outputs,
        ...parts,
        DTYPE_BYTES[x.type.dtype],
        workspace,
      );
    },
  },
  reduce_scatter: {
    emit(node, { inputs, outputs, mesh, workspace, call, comm }) {
      const [y] = node.results;
      const { dim } = node.attrs;
      const parts = around(y.type, dim, mesh);
      return call(
        "reduce_scatter",
        comm(axisOf(node, mesh)),
        ...inputs,
        ...outputs,
        ...parts,
        `ithaca::DType::${y.type.dtype}`,
        workspace,
      );
    },
  },
  all_reduce: {
    emit(node, { inputs, outputs, mesh, call, comm }) {
      const [x] = node.operands;
      const count = product(localSizes(x.type, mesh));
      return call(
        "all_reduce",
        comm(axisOf(node, mesh)),
        ...inputs,
        ...outputs,
        count,
        `ithaca::DType::${x.type.dtype}`,
      );
    },
  },
  offload: copy,
  reload: copy,
  repeat: unsupported("loops are laid out by the schedule"),
  tile: unsupported("loops are laid out by the schedule"),
  checkpoint: unsupported("its body is laid out by the schedule"),
};
