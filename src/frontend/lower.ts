/** @file A definition to a graph: builds the model, names its parameters by their paths, and reads `forward`. */
import { basename } from "node:path";
import { ts } from "ts-morph";
import { UserError } from "../ir/error.ts";
import type { Graph, Node, Output, Param, Value } from "../ir/graph.ts";
import { producers } from "../ir/graph.ts";
import { suggestion } from "../ir/nearest.ts";
import type { OpDefinition } from "../ir/op.ts";
import { type Mesh, printType, tensor } from "../ir/type.ts";
import { globals } from "./builtins.ts";
import { construct } from "./classes.ts";
import { declarationsOf } from "./declarations.ts";
import { describe } from "./describe.ts";
import { expressions } from "./expressions.ts";
import { call } from "./functions.ts";
import { isForModels, modelOps, nativesOf } from "./intrinsics.ts";
import { type Exports, Linker } from "./linking.ts";
import { Machine } from "./machine.ts";
import { methodOf } from "./members.ts";
import { roll } from "./roll.ts";
import { Sources } from "./sources.ts";
import { statements } from "./statements.ts";
import { NAME_STRENGTH, Trace } from "./trace.ts";
import {
  ClassDatum,
  type Datum,
  fromJson,
  InstanceDatum,
  ParameterDatum,
  RecordDatum,
  TensorDatum,
} from "./values.ts";

export interface LowerOptions {
  /** Path of the definition. */
  readonly file: string;
  /** The class of the whole model. Default: the last exported one whose forward takes a Batch. */
  readonly className?: string | null;
  /** What the class is constructed with. */
  readonly config: unknown;
  /** Name of the graph. */
  readonly name: string;
  /** Global sizes of the inputs. */
  readonly batch: number;
  readonly sequence: number;
  readonly mesh?: Mesh;
  /** Files with ops of the user's own, which the definition may import. */
  readonly ops?: readonly ImportedOps[];
}

/** Ops that a file exports, by the names under which it does. The file is not read: its ops are known already. */
export interface ImportedOps {
  /** Absolute. */
  readonly path: string;
  readonly ops: ReadonlyMap<string, OpDefinition>;
}

const INPUTS = ["input_ids", "labels", "position_ids", "segments"] as const;

/** Standard deviation of new weights where the configuration says nothing, as in Hugging Face transformers. */
const INITIALIZER_RANGE = 0.02;

/** Lowers a definition in f32 with its layers rolled up. Throws a UserError for anything wrong with it. */
export function lower(options: LowerOptions): Graph {
  try {
    const { ops = [] } = options;
    const sources = new Sources(options.file, new Map(ops.map((own) => [own.path, declarationsOf(own.ops)])));
    const config = fromJson(options.config, "config");
    const range = config instanceof RecordDatum ? config.fields.get("initializer_range") : undefined;
    const known = [...modelOps, ...ops.flatMap((own) => [...own.ops.values()].filter(isForModels))];
    const natives = nativesOf(() => machine, known, typeof range === "number" ? range : INITIALIZER_RANGE);
    const machine: Machine = new Machine(sources, { call, expressions, statements, globals, natives });
    const graph = lowerWith(machine, config, options);
    const mistake = sources.typeError();
    if (mistake) throw mistake;
    return graph;
  } catch (error) {
    // The host's stack ends where a file nests thousands of brackets.
    if (!(error instanceof RangeError)) throw error;
    throw new UserError("the definition is nested too deeply", { location: basename(options.file) });
  }
}

function lowerWith(machine: Machine, config: Datum, options: LowerOptions): Graph {
  const exports = new Linker(machine).load(machine.sources.entry);
  const cls = modelClass(machine, exports, options.className);
  const place = cls.node.name ?? cls.node;
  const model = construct(machine, cls, takesConfig(cls) ? [config] : [], place) as InstanceDatum;
  const trace = new Trace(options.mesh ?? new Map());
  const params = declareParameters(machine, model, trace, options);
  machine.trace = trace;
  const forward = methodOf(cls, "forward");
  if (!forward) {
    return machine.fail(place, `${cls.name} has no forward`, "Write: forward(batch: Batch): Loss { ... }");
  }
  const batch = new RecordDatum(
    new Map(
      params.flatMap(({ role, value }) => (role === "input" ? [[value.name, new TensorDatum(value)]] : [])),
    ),
    "the batch",
  );
  const loss = machine.call(forward, [batch], place, model);
  const outputs = lossOutputs(machine, loss, trace, forward.node.name ?? forward.node);
  refuseUnused(machine, model, trace.builder.nodes, outputs[0].value);
  return roll(options.name, params, outputs, trace);
}

/** Whether the constructor that `cls` has or inherits wants an argument. */
function takesConfig(cls: ClassDatum): boolean {
  for (const { node } of cls.chain()) {
    const own = node.members.find((member) => ts.isConstructorDeclaration(member));
    if (own) return own.parameters.length > 0;
  }
  return false;
}

/** The class to construct: the one asked for, or the last exported one whose forward takes a Batch. */
function modelClass(machine: Machine, exports: Exports, name: string | null | undefined): ClassDatum {
  const classes = [...exports.values()].flatMap(({ datum }) => (datum instanceof ClassDatum ? [datum] : []));
  const names = classes.map((cls) => cls.name);
  const file = machine.sources.nameOf(machine.sources.entry);
  if (name) {
    const found = classes.find((cls) => cls.name === name);
    if (found) return found;
    throw new UserError(`${file} exports no class ${name}`, {
      remedy: suggestion(name, names, "classes exported"),
    });
  }
  const takesBatch = classes.filter((cls) => {
    const [parameter] = methodOf(cls, "forward")?.node.parameters ?? [];
    return parameter?.type?.getText() === "Batch";
  });
  const chosen = takesBatch.at(-1) ?? classes.at(-1);
  if (chosen) return chosen;
  throw new UserError(`${file} exports no class`, {
    remedy:
      "Export the class of the whole model: export class MyModel extends Module { forward(batch: Batch): Loss { ... } }",
  });
}

/** Declares inputs, and every parameter by the path of fields that leads to it, the first one if there are several. */
function declareParameters(
  machine: Machine,
  model: InstanceDatum,
  trace: Trace,
  options: LowerOptions,
): readonly Param[] {
  const { builder } = trace;
  for (const name of INPUTS) builder.param("input", name, tensor("i32", [options.batch, options.sequence]));
  const seen = new Set<Datum>();
  const visit = (datum: Datum, path: string): void => {
    if (typeof datum !== "object" || datum === null || seen.has(datum)) return;
    if (datum instanceof ParameterDatum) {
      seen.add(datum);
      const isInput = (INPUTS as readonly string[]).includes(path);
      if (isInput || !/^[A-Za-z_][\w.-]*$/.test(path)) {
        const remedy = isInput
          ? "That is an input of every model."
          : "Names are made of letters, digits and _.";
        machine.fail(datum.node, `a parameter can't be named "${path}"`, remedy);
      }
      datum.value = builder.param("param", path, tensor("f32", datum.shape), datum.init);
      return;
    }
    const join = (name: string | number) => (path === "" ? String(name) : `${path}.${name}`);
    if (Array.isArray(datum)) {
      seen.add(datum);
      for (const [i, item] of datum.entries()) visit(item, join(i));
    } else if (datum instanceof InstanceDatum || datum instanceof RecordDatum) {
      seen.add(datum);
      for (const [name, item] of datum.fields) visit(item, join(name));
    }
  };
  visit(model, "");
  return builder.params;
}

/** Checks what forward returned and names it. */
function lossOutputs(machine: Machine, loss: Datum, trace: Trace, place: ts.Node): Output[] {
  const part = (name: "sum" | "count", type: string): Output => {
    const datum = loss instanceof RecordDatum ? loss.fields.get(name) : undefined;
    if (!(datum instanceof TensorDatum) || printType(datum.value.type) !== type) {
      const found =
        loss instanceof RecordDatum ? `an object whose ${name} is ${describe(datum)}` : describe(loss);
      return machine.fail(
        place,
        `forward must return the loss, and returns ${found}`,
        "Return cross_entropy(logits, labels), or { sum, count } with sum: f32[] and count: i32[].",
      );
    }
    trace.wish(datum.value, `loss_${name}`, NAME_STRENGTH.variable);
    return { name: `loss_${name}`, value: datum.value };
  };
  return [part("sum", "f32[]"), part("count", "i32[]")];
}

/** A parameter that the loss does not depend on has no gradient: refused, since it is mostly a mistake. */
function refuseUnused(machine: Machine, model: InstanceDatum, nodes: readonly Node[], loss: Value): void {
  const makers = producers(nodes);
  const used = new Set<Value>([loss]);
  const pending = [loss];
  for (let value = pending.pop(); value; value = pending.pop()) {
    for (const operand of makers.get(value)?.operands ?? []) {
      if (!used.has(operand)) pending.push(operand);
      used.add(operand);
    }
  }
  const visit = (datum: Datum, seen: Set<Datum>): void => {
    if (typeof datum !== "object" || datum === null || seen.has(datum)) return;
    seen.add(datum);
    if (datum instanceof ParameterDatum && datum.value && !used.has(datum.value)) {
      machine.site = null;
      machine.fail(
        datum.node,
        `the loss does not depend on the parameter ${datum.value.name}`,
        "Use it in forward, or remove the field.",
      );
    }
    if (Array.isArray(datum)) for (const item of datum) visit(item, seen);
    else if (datum instanceof InstanceDatum || datum instanceof RecordDatum) {
      for (const item of datum.fields.values()) visit(item, seen);
    }
  };
  visit(model, new Set());
}
