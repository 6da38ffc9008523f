/** @file Elementwise ops as C++ expressions over floats, and the loops that are generated from them. */
import type { Node, Region, Value } from "../ir/graph.ts";
import { opNames, recordOf } from "../ir/ops/index.ts";
import { localSizes, type Mesh, type TensorType } from "../ir/type.ts";

type Expression = (operands: readonly string[], attrs: Node["attrs"]) => string;

const call =
  (name: string): Expression =>
  ([x]) =>
    `${name}(${x})`;
const infix =
  (operator: string): Expression =>
  ([a, b]) =>
    `${a} ${operator} ${b}`;

/** The machine's form of each elementwise op; the functions are those of elementwise.h in runtime/kernels. */
const expressions: Readonly<Record<string, Expression>> = {
  add: infix("+"),
  sub: infix("-"),
  mul: infix("*"),
  div: infix("/"),
  minimum: ([a, b]) => `${a} < ${b} ? ${a} : ${b}`,
  maximum: ([a, b]) => `${a} > ${b} ? ${a} : ${b}`,
  neg: ([x]) => `-${x}`,
  exp: call("exp"),
  log: call("log"),
  sqrt: call("sqrt"),
  tanh: call("tanh"),
  sigmoid: call("sigmoid"),
  relu: call("relu"),
  silu: call("silu"),
  gelu: call("gelu_tanh"),
  relu_grad: ([x, dy]) => `${x} > 0.0f ? ${dy} : 0.0f`,
  silu_grad: ([x, dy]) => `silu_grad(${x}) * ${dy}`,
  gelu_grad: ([x, dy]) => `gelu_tanh_grad(${x}) * ${dy}`,
  swiglu: ([gate, up]) => `silu(${gate}) * ${up}`,
  swiglu_grad_gate: ([gate, up, dy]) => `silu_grad(${gate}) * ${up} * ${dy}`,
  swiglu_grad_up: ([gate, dy]) => `silu(${gate}) * ${dy}`,
  scale: ([x], { by }) => `${x} * ${floatLiteral(by as number)}`,
  cast: ([x]) => x,
};

/** Elementwise ops that have no expression: the test asserts that there are none. */
export function missingExpressions(): string[] {
  return opNames.filter((name) => recordOf(name).elementwise && !expressions[name]);
}

/** A float literal of C++ that reads back as the same f32. */
export function floatLiteral(value: number): string {
  if (Number.isNaN(value)) return "NAN";
  if (!Number.isFinite(value)) return value > 0 ? "INFINITY" : "-INFINITY";
  const text = String(Math.fround(value) === value ? value : Number(value.toPrecision(9)));
  return /[.e]/.test(text) ? `${text}f` : `${text}.0f`;
}

const C_TYPES = { f32: "float", bf16: "bf16", i32: "std::int32_t" } as const;

export interface KernelOperand {
  readonly name: string;
  readonly type: string;
  /** How the element is found from the flat index: all of it, the trailing part, or always the first. */
  readonly index: string;
}

/** A loop over elements, every string final. */
export interface ElementwiseKernel {
  readonly name: string;
  readonly comments: readonly string[];
  readonly operands: readonly KernelOperand[];
  readonly results: readonly {
    readonly name: string;
    readonly type: string;
    /** The value in a register, and the statement that stores it. */
    readonly from: string;
    readonly register: string;
    readonly statement: string;
  }[];
  readonly loads: readonly {
    readonly name: string;
    readonly type: string;
    readonly value: string;
    readonly operand: KernelOperand;
  }[];
  readonly statements: readonly { readonly name: string; readonly type: string; readonly value: string }[];
  /** Whether some operand repeats along leading dimensions, so that the loop runs row by row. */
  readonly rows: boolean;
}

/** A single elementwise node seen as a body of one. */
export function bodyOf(node: Node): Region {
  return node.body ?? { params: node.operands, nodes: [node], returns: node.results };
}

function localElements(type: TensorType, mesh: Mesh): number {
  return localSizes(type, mesh).reduce((total, size) => total * size, 1);
}

/** How the loop of an elementwise node runs: columns are the shortest operand that repeats, or everything at once. */
export function loopSizes(node: Node, mesh: Mesh): { rows: number; columns: number } {
  const full = localElements(node.results[0].type, mesh);
  const repeating = node.operands
    .map(({ type }) => localElements(type, mesh))
    .filter((size) => size !== 1 && size !== full);
  const columns = Math.min(full, ...repeating);
  return { rows: full / columns, columns };
}

/** The kernel of a `fused` or elementwise node, without its name. Equal kernels have equal text but for names. */
export function elementwiseKernel(node: Node, mesh: Mesh): Omit<ElementwiseKernel, "name"> {
  const body = bodyOf(node);
  const names = new Map<Value, string>();
  const { columns } = loopSizes(node, mesh);
  const full = localElements(body.returns[0].type, mesh);
  const operands = body.params.map((param, i): KernelOperand => {
    names.set(param, `x${i}`);
    const size = localElements(param.type, mesh);
    const rows = size / columns;
    const index =
      size === full ? "i" : size === 1 ? "0" : rows === 1 ? "column" : `row % ${rows} * columns + column`;
    return { name: `in${i}`, type: C_TYPES[param.type.dtype], index };
  });
  // Integers stay integers: a count of tokens must not pass through 24 bits of mantissa.
  const registerType = (value: Value): string => (value.type.dtype === "i32" ? "std::int32_t" : "float");
  const statements = body.nodes.map((own, i) => {
    const name = `v${i}`;
    names.set(own.results[0], name);
    const expression = expressions[own.op];
    if (!expression) throw new Error(`${own.op} has no expression`);
    const value = expression(
      own.operands.map((operand) => names.get(operand) as string),
      own.attrs,
    );
    const type = registerType(own.results[0]);
    return { name, type, value: own.op === "cast" ? `static_cast<${type}>(${value})` : value };
  });
  return {
    comments: body.nodes.map(
      (own) => `${own.results[0].name} = ${own.op} ${own.operands.map(({ name }) => name).join(", ")}`,
    ),
    operands,
    loads: operands.map((operand, i) => {
      const type = registerType(body.params[i]);
      const { name, index } = operand;
      return {
        name: `x${i}`,
        type,
        operand,
        value: type === "float" ? `load(&${name}[${index}])` : `${name}[${index}]`,
      };
    }),
    statements,
    results: body.returns.map((value, i) => {
      const from = names.get(value) as string;
      const type = C_TYPES[value.type.dtype];
      return {
        name: `out${i}`,
        type,
        from,
        register: registerType(value),
        statement: type === "std::int32_t" ? `out${i}[i] = ${from};` : `store(&out${i}[i], ${from});`,
      };
    }),
    rows: operands.some(({ index }) => index.includes("column")),
  };
}
