/**
 * @file A graph as JSON, for programs that read or write IR without a parser for its text. One schema describes it,
 * checks what is read, and is published as docs/ir.schema.json.
 */
import { z } from "zod";
import { UserError } from "./error.ts";
import type { Attrs, AttrValue, Graph, Node, Region, Value } from "./graph.ts";
import { completeAttrs } from "./op.ts";
import { isOpName, recordOf } from "./ops/index.ts";
import { memories, type TensorType } from "./type.ts";

const name = z.string().describe("A value's name, without its %.");

const typeSchema = z
  .strictObject({
    dtype: z.enum(["f32", "bf16", "i32"]),
    memory: z.enum(memories),
    dims: z.array(
      z.strictObject({
        size: z.int().min(0).describe("Over all ranks."),
        axes: z.array(z.string()).describe("Axes of the mesh that it is split over, the major one first."),
      }),
    ),
    partial: z.array(z.string()).describe("Axes over which ranks' shares are still to be summed."),
    times: z.int().min(0).nullable().describe("The members of a family; null for a single tensor."),
  })
  .meta({ id: "type", description: "A tensor with its layout: bf16<host>[2@dp, 4096@sp]{sum@tp} in text." });

const valueSchema = z.strictObject({ name, type: typeSchema }).meta({ id: "value" });

const attrSchema = z
  .union([z.number(), z.boolean(), z.string(), z.array(z.number())])
  .describe('What JSON has no number for is a word: "Infinity", "-Infinity", "-0".');

const nodeSchema = z
  .strictObject({
    op: z.string().describe("One of docs/ops.md."),
    operands: z.array(name),
    attrs: z
      .record(z.string(), attrSchema)
      .describe("All of the op's attributes; those left out have their default."),
    results: z.array(valueSchema),
    get body() {
      return regionSchema
        .nullable()
        .describe("Of repeat, tile, checkpoint and fused; null for any other op.");
    },
    loc: z.string().describe('file:line of the model, or "".'),
  })
  .meta({ id: "node", description: "One use of an op." });

const regionSchema = z
  .strictObject({
    params: z.array(valueSchema).describe("One for each operand of the node; the body uses nothing else."),
    get nodes() {
      return z.array(nodeSchema);
    },
    returns: z.array(name),
  })
  .meta({ id: "region", description: "The body of a node, with names of its own." });

export const graphSchema = z
  .strictObject({
    name: z.string(),
    mesh: z
      .array(z.strictObject({ axis: z.string(), degree: z.int().min(1) }))
      .describe("The last axis varies fastest."),
    params: z.array(
      z.strictObject({
        role: z.enum(["input", "param", "state"]),
        name,
        type: typeSchema,
        init: z
          .string()
          .describe('How a weight begins: zeros, ones, "normal 0.02"; "" for inputs and states.'),
      }),
    ),
    nodes: z.array(nodeSchema).describe("In order: every value is defined before it is used."),
    outputs: z.array(z.strictObject({ name: z.string(), value: name })),
    updates: z
      .array(z.strictObject({ param: name, value: name }))
      .describe("What weights and states become at the end of the step."),
  })
  .meta({
    id: "graph",
    description: "A program: ordered nodes over a mesh of ranks. docs/ir.md says what it means.",
  });

/** What `ithaca ir --json` prints. */
export const irSchema = z.strictObject({
  stages: z.array(
    z.strictObject({
      pass: z.string().describe('The pass behind which the graph is this; "input", "plan".'),
      text: z
        .string()
        .describe("The graph as text, with --diff the difference to the stage before, or the plan."),
      graph: graphSchema.optional().describe("Of a graph that is shown as it is."),
    }),
  ),
  passes: z
    .array(
      z.strictObject({
        pass: z.string(),
        milliseconds: z.number(),
        nodes: z.int(),
        bytes: z.number().describe("Moved to and from memory by all ops of a step on all ranks."),
        flops: z.number(),
        changed: z.boolean().describe("Whether the pass returned another graph than it was given."),
      }),
    )
    .optional()
    .describe("With --stats: what each pass did, the input first."),
});

export type GraphJson = z.infer<typeof graphSchema>;
type NodeJson = z.infer<typeof nodeSchema>;
type RegionJson = z.infer<typeof regionSchema>;

const names = (values: readonly Value[]): string[] => values.map((value) => value.name);
const typeJson = ({ dtype, memory, dims, partial, times }: TensorType) => ({
  dtype,
  memory,
  dims: dims.map(({ size, axes }) => ({ size, axes: [...axes] })),
  partial: [...partial],
  times,
});
const valueJson = (value: Value) => ({ name: value.name, type: typeJson(value.type) });

function attrJson(value: AttrValue): GraphJson["nodes"][number]["attrs"][string] {
  if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0)))
    return Object.is(value, -0) ? "-0" : String(value);
  return Array.isArray(value) ? [...value] : (value as number | boolean | string);
}

function nodeJson({ op, operands, attrs, results, body, loc }: Node): NodeJson {
  return {
    op,
    operands: names(operands),
    attrs: Object.fromEntries(Object.entries(attrs).map(([key, value]) => [key, attrJson(value)])),
    results: results.map(valueJson),
    body: body && {
      params: body.params.map(valueJson),
      nodes: body.nodes.map(nodeJson),
      returns: names(body.returns),
    },
    loc,
  };
}

export function toJson(graph: Graph): GraphJson {
  return {
    name: graph.name,
    mesh: [...graph.mesh].map(([axis, degree]) => ({ axis, degree })),
    params: graph.params.map(({ role, value, init }) => ({ role, ...valueJson(value), init })),
    nodes: graph.nodes.map(nodeJson),
    outputs: graph.outputs.map((output) => ({ name: output.name, value: output.value.name })),
    updates: graph.updates.map(({ param, value }) => ({ param: param.name, value: value.name })),
  };
}

/** The graph of what `toJson` gave, or another program wrote. Throws a UserError that says where it is none. */
export function fromJson(json: unknown, file = "graph.json"): Graph {
  const read = graphSchema.safeParse(json);
  if (!read.success) {
    const [{ path, message }] = read.error.issues;
    throw new UserError(`${path.join(".") || "it"}: ${message}`, {
      location: file,
      remedy: "docs/ir.schema.json says what a graph is in JSON.",
    });
  }
  const { name: own, mesh, params, nodes, outputs, updates } = read.data;
  const scope = new Scope(file);
  const given = params.map(({ role, init, ...value }) => ({ role, value: scope.define(value), init }));
  return {
    name: own,
    mesh: new Map(mesh.map(({ axis, degree }) => [axis, degree])),
    params: given,
    nodes: nodes.map((node) => nodeOf(node, scope)),
    outputs: outputs.map((output) => ({ name: output.name, value: scope.use(output.value) })),
    updates: updates.map(({ param, value }) => ({ param: scope.use(param), value: scope.use(value) })),
  };
}

/** Values that are known at a place, by name. */
class Scope {
  readonly file: string;
  readonly #values = new Map<string, Value>();

  constructor(file: string) {
    this.file = file;
  }

  define(value: Value): Value {
    if (this.#values.has(value.name)) this.fail(`%${value.name} is defined twice`);
    const own = { name: value.name, type: value.type };
    this.#values.set(value.name, own);
    return own;
  }

  use(wanted: string): Value {
    return this.#values.get(wanted) ?? this.fail(`%${wanted} is not defined before it is used`);
  }

  fail(message: string): never {
    throw new UserError(message, { location: this.file });
  }
}

function nodeOf({ op, operands, attrs, results, body, loc }: NodeJson, scope: Scope): Node {
  if (!isOpName(op)) return scope.fail(`there is no op "${op}"; docs/ops.md lists them all`);
  const inputs = operands.map((operand) => scope.use(operand));
  return {
    op,
    operands: inputs,
    attrs: attrsOf(op, attrs, scope),
    results: results.map((result) => scope.define(result)),
    body: body && regionOf(body, scope.file),
    loc,
  };
}

function attrsOf(op: string, given: NodeJson["attrs"], scope: Scope): Attrs {
  const { attrs: defaults } = recordOf(op);
  const kind = (value: AttrValue): string => (Array.isArray(value) ? "list" : typeof value);
  const read = Object.entries(given).map(([key, value]): [string, AttrValue] => {
    if (!Object.hasOwn(defaults, key)) return scope.fail(`${op} has no attribute "${key}"`);
    const own =
      typeof defaults[key] === "number" && /^(-?Infinity|-0)$/.test(String(value)) ? Number(value) : value;
    if (kind(own) !== kind(defaults[key])) scope.fail(`${op}'s attribute ${key} is a ${kind(defaults[key])}`);
    return [key, own];
  });
  return completeAttrs(recordOf(op), Object.fromEntries(read));
}

function regionOf({ params, nodes, returns }: RegionJson, file: string): Region {
  const scope = new Scope(file);
  const given = params.map((param) => scope.define(param));
  return {
    params: given,
    nodes: nodes.map((node) => nodeOf(node, scope)),
    returns: returns.map((value) => scope.use(value)),
  };
}
