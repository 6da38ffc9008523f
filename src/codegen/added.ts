/**
 * @file Kernels of ops that are not ours: where they are, and how generated code calls them.
 *
 * A kernel is a function in a file of the user's. A generated file includes that file and holds a function for each
 * combination of element types that the program needs. So the compiler sees definition and call together: templates are
 * made for what is called, and a kernel with other parameters is an error in its own file (decision 10). What a kernel is
 * called with stands in ithaca/kernel.h.
 */
import { basename } from "node:path";
import { UserError } from "../ir/error.ts";
import type { Attrs, AttrValue, Node } from "../ir/graph.ts";
import type { OpDefinition } from "../ir/op.ts";
import { fileOfOp, recordOf } from "../ir/ops/index.ts";
import { type DType, localSizes, type Mesh, type TensorType } from "../ir/type.ts";
import type { EmitContext } from "./kernels.ts";
import type { TargetName } from "./targets.ts";

/** One use of an op, as its kernel sees it. */
export interface KernelUse<A = Attrs> {
  /** Sizes of one rank's share of each operand and result. */
  readonly operands: readonly (readonly number[])[];
  readonly results: readonly (readonly number[])[];
  readonly attrs: A;
  readonly target: TargetName;
  /** OpenMP threads of a rank; 1 on a GPU. */
  readonly threads: number;
}

/** Where the kernels of an op are. */
export interface AddedKernel {
  /** The file that says so. */
  readonly declaredIn: string;
  readonly record: OpDefinition;
  /** Paths of the files, absolute; absent where the op has no kernel for the target. */
  readonly files: Readonly<Partial<Record<TargetName, string>>>;
  /** Scratch memory that a use needs, in bytes; absent: the kernel takes no workspace. */
  readonly workspaceBytes?: (use: KernelUse) => number;
}

const kernels = new Map<string, AddedKernel>();

/** Makes the kernels of a file known, in place of those that it named before. */
export function addKernels(list: readonly AddedKernel[], declaredIn: string): void {
  for (const [op, own] of kernels) if (own.declaredIn === declaredIn) kernels.delete(op);
  for (const kernel of list) kernels.set(kernel.record.name, kernel);
}

/** Scratch memory of an added op's node; 0 for ops without a kernel, which may still be planned. */
export function addedWorkspaceBytes(node: Node, mesh: Mesh, target: TargetName, threads: number): number {
  const { workspaceBytes } = kernels.get(node.op) ?? {};
  if (!workspaceBytes) return 0;
  const sizes = (values: Node["operands"]) => values.map(({ type }) => localSizes(type, mesh));
  const bytes = workspaceBytes({
    operands: sizes(node.operands),
    results: sizes(node.results),
    attrs: node.attrs,
    target,
    threads,
  });
  if (Number.isSafeInteger(bytes) && bytes >= 0) return bytes;
  throw new UserError(`the workspace of ${node.op} would be ${bytes} bytes`, {
    location: fileOfOp(node.op) as string,
    remedy: "workspaceBytes returns a whole number of bytes.",
  });
}

/** A function of the generated program that calls a kernel, every string final. */
interface Wrapper {
  readonly op: string;
  /** Its name with parameters, and the kernel's own, as it should be declared. */
  readonly declaration: string;
  readonly expected: string;
  readonly names: string;
}

/** A generated file: it includes `file`, which is the user's. */
export interface AddedFile {
  readonly path: string;
  readonly file: string;
  readonly ops: readonly string[];
  readonly wrappers: readonly Wrapper[];
}

const C_TYPES: Readonly<Record<DType, string>> = { f32: "float", bf16: "ithaca::bf16", i32: "std::int32_t" };

const tensorOf = ({ dtype }: TensorType, isResult: boolean): string =>
  `ithaca::Tensor<${isResult ? "" : "const "}${C_TYPES[dtype]}>`;

function typeOfAttr(value: AttrValue): string {
  if (typeof value === "number") return "double";
  if (typeof value === "boolean") return "bool";
  return typeof value === "string" ? "const char*" : "std::span<const double>";
}

/** A double of C++ that reads back as the same number. */
function doubleLiteral(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NAN" : value > 0 ? "INFINITY" : "-INFINITY";
  const text = String(value);
  return /[.e]/.test(text) ? text : `${text}.0`;
}

function literalOf(value: AttrValue): string {
  if (typeof value === "number") return doubleLiteral(value);
  if (typeof value === "boolean") return String(value);
  if (typeof value === "string") return JSON.stringify(value);
  return `std::array<double, ${value.length}>{${value.map(doubleLiteral).join(", ")}}`;
}

/** The calls of added ops in one program, and the files that serve them. */
export class AddedCalls {
  readonly #target: TargetName;
  readonly #wrappers = new Map<string, Map<string, Wrapper>>();

  constructor(target: TargetName) {
    this.#target = target;
  }

  /** The statement that runs a node. Throws a UserError where its op has no kernel for the target. */
  call(node: Node, { inputs, outputs, workspace, mesh, call }: EmitContext): string {
    if (recordOf(node.op).alias) return "";
    const kernel = kernels.get(node.op);
    const file = kernel?.files[this.#target];
    if (!kernel || file === undefined) throw missing(node.op, this.#target, kernel);
    const wrapper = wrapperOf(kernel, node, this.#target);
    const own = this.#wrappers.get(file) ?? new Map<string, Wrapper>();
    this.#wrappers.set(file, own.set(wrapper.declaration, wrapper));
    const tensor = (pointer: string, type: TensorType, isResult: boolean): string => {
      const sizes = localSizes(type, mesh);
      return `${tensorOf(type, isResult)}{${pointer}, ${sizes.length}, {${sizes.join(", ")}}}`;
    };
    return call(
      `run_${node.op}`,
      ...inputs.map((pointer, i) => tensor(pointer, node.operands[i].type, false)),
      ...outputs.map((pointer, i) => tensor(pointer, node.results[i].type, true)),
      ...Object.keys(kernel.record.attrs).map((name) => literalOf(node.attrs[name])),
      ...(kernel.workspaceBytes ? [workspace] : []),
    );
  }

  /** The files to generate, one for each file with kernels that the program calls. */
  files(): readonly AddedFile[] {
    const extension = this.#target === "cuda" ? "cu" : "cc";
    return [...this.#wrappers].map(([file, wrappers], i) => ({
      path: `kernels_${i}.${extension}`,
      file,
      ops: [...new Set([...wrappers.values()].map(({ op }) => op))],
      wrappers: [...wrappers.values()],
    }));
  }
}

function wrapperOf({ record, workspaceBytes }: AddedKernel, node: Node, target: TargetName): Wrapper {
  const parameters = [
    ...node.operands.map(({ type }, i) => [tensorOf(type, false), record.operands[i]]),
    ...node.results.map(({ type }, i) => [tensorOf(type, true), record.results[i]]),
    ...Object.entries(record.attrs).map(([name, value]) => [typeOfAttr(value), name]),
    ...(workspaceBytes ? [["void*", "workspace"]] : []),
    ...(target === "cuda" ? [["cudaStream_t", "stream"]] : []),
  ];
  const list = parameters.map((own) => own.join(" ")).join(", ");
  return {
    op: node.op,
    declaration: `void run_${node.op}(${list})`,
    expected: `void ${node.op}(${list})`,
    names: parameters.map(([, name]) => name).join(", "),
  };
}

function missing(op: string, target: TargetName, kernel: AddedKernel | undefined): UserError {
  const extension = target === "cuda" ? "cu" : "cc";
  const line = `${target}: "./${op}.${extension}"`;
  return new UserError(`the op ${op} has no kernel for target: ${target}`, {
    location: fileOfOp(op) as string,
    remedy: kernel
      ? `Add ${line} to its defineKernel, or train with another target.`
      : `Add: export const kernel = defineKernel(${op}, { ${line} })`,
  });
}

/** What is said of a mistake in the user's file. */
export function mistakeIn({ file, ops, wrappers }: AddedFile): { what: string; remedy: string } {
  return {
    what: `the kernel of ${ops.join(" and ")} can't be compiled`,
    remedy: [
      `${basename(file)} is to define, outside of any namespace:`,
      ...wrappers.map(({ expected }) => `  ${expected}`),
      "A template serves all element types. ithaca/kernel.h says what a kernel is given.",
    ].join("\n"),
  };
}
