/** @file `object.name` and `object[key]`: reading and writing, for every kind of value. */
import type { ts } from "ts-morph";
import { nearest, suggestion } from "../ir/nearest.ts";
import { describe, isTensor, shapeOf } from "./describe.ts";
import type { Machine } from "./machine.ts";
import { arrayMethods, numberMethods, stringMethods } from "./methods.ts";
import {
  Absent,
  ClassDatum,
  type Datum,
  ErrorDatum,
  FunctionDatum,
  InstanceDatum,
  NativeDatum,
  RecordDatum,
} from "./values.ts";

/** Names that lead from an object to what made it; a definition has no use for them. */
const FORBIDDEN = new Set(["constructor", "prototype", "__proto__", "__defineGetter__", "__lookupGetter__"]);

/** What `object.name` is. `node` is where a mistake is shown. */
export function readMember(machine: Machine, object: Datum, name: string, node: ts.Node): Datum {
  if (object instanceof RecordDatum) return readField(object, name);
  if (FORBIDDEN.has(name)) {
    machine.fail(node, `"${name}" is not available in a definition`, "A definition is read, never executed.");
  }
  if (object instanceof InstanceDatum) return readInstance(machine, object, name, node);
  if (object instanceof ClassDatum) return readStatic(machine, object, name, node);
  if (object instanceof NativeDatum) return readNative(machine, object, name, node);
  if (Array.isArray(object)) {
    if (name === "length") return object.length;
    return boundMethod(machine, arrayMethods, object, name, node, "arrays");
  }
  if (typeof object === "string") {
    if (name === "length") return object.length;
    return boundMethod(machine, stringMethods, object, name, node, "strings");
  }
  if (typeof object === "number") return boundMethod(machine, numberMethods, object, name, node, "numbers");
  if (isTensor(object)) {
    if (name === "shape") return [...shapeOf(object)];
    return machine.fail(
      node,
      `a tensor has no "${name}"`,
      machine.tables.natives.has(name)
        ? `${name} is a function: ${name}(x, ...), imported from "ithaca/nn".`
        : "A tensor has `shape`; everything else is done by ops, such as add(a, b).",
    );
  }
  if (object instanceof ErrorDatum && name === "message") return object.message;
  if (object instanceof Absent)
    machine.fail(node, `"${name}" can't be read: ${object.reason}`, object.remedy);
  return machine.fail(node, `${describe(object)} has no "${name}"`);
}

function readField(record: RecordDatum, name: string): Datum {
  const datum = record.fields.get(name);
  if (datum !== undefined || record.fields.has(name)) return datum;
  return new Absent(
    `${record.origin} has no "${name}"`,
    suggestion(name, [...record.fields.keys()], `keys of ${record.origin}`),
  );
}

/** Finds what a class or its bases have under a name. */
function lookUp<T>(cls: ClassDatum, table: (own: ClassDatum) => ReadonlyMap<string, T>, name: string) {
  for (const home of cls.chain()) {
    const found = table(home).get(name);
    if (found !== undefined) return { found, home };
  }
  return undefined;
}

/** The method `name` of `cls` or a base, to be called on an instance; undefined if there is none. */
export function methodOf(cls: ClassDatum, name: string): FunctionDatum | undefined {
  const method = lookUp(cls, (own) => own.methods, name);
  return method && new FunctionDatum(name, method.found, method.home.scope, method.home);
}

function readInstance(machine: Machine, object: InstanceDatum, name: string, node: ts.Node): Datum {
  const field = object.fields.get(name);
  if (field !== undefined || object.fields.has(name)) return field;
  const accessor = lookUp(object.class, (own) => own.accessors, name);
  if (accessor?.found.get) {
    const getter = new FunctionDatum(name, accessor.found.get, accessor.home.scope, accessor.home);
    return machine.call(getter, [], node, object);
  }
  const method = methodOf(object.class, name);
  if (method) return method;
  const known = [
    ...object.fields.keys(),
    ...[...object.class.chain()].flatMap((own) => [...own.methods.keys()]),
  ];
  return machine.fail(
    node,
    `${describe(object)} has no "${name}"`,
    suggestion(name, known, "fields and methods"),
  );
}

function readStatic(machine: Machine, cls: ClassDatum, name: string, node: ts.Node): Datum {
  if (name === "name") return cls.name;
  const found = lookUp(cls, (own) => own.statics, name);
  if (found) return found.found;
  const known = [...cls.chain()].flatMap((own) => [...own.statics.keys()]);
  return machine.fail(
    node,
    `the class ${cls.name} has no "${name}"`,
    suggestion(name, known, "static members"),
  );
}

function readNative(machine: Machine, object: NativeDatum, name: string, node: ts.Node): Datum {
  if (object.members.has(name)) return object.members.get(name);
  const known = [...object.members.keys()];
  return machine.fail(
    node,
    `${object.name} has no "${name}"`,
    known.length > 0 ? suggestion(name, known, `members of ${object.name}`) : undefined,
  );
}

type Methods<T> = ReadonlyMap<string, (self: T) => NativeDatum>;

function boundMethod<T>(
  machine: Machine,
  methods: Methods<T>,
  self: T,
  name: string,
  node: ts.Node,
  what: string,
): Datum {
  const method = methods.get(name);
  if (method) return method(self);
  const near = nearest(name, methods.keys());
  return machine.fail(
    node,
    `${what} have no "${name}" in a definition`,
    near ? `Did you mean "${near}"?` : `They have ${[...methods.keys()].join(", ")}.`,
  );
}

/** `object[key]`. */
export function readElement(
  machine: Machine,
  object: Datum,
  key: Datum,
  node: ts.ElementAccessExpression,
): Datum {
  if (typeof key === "string") return readMember(machine, object, key, node);
  const index = machine.number(key, node.argumentExpression, "an index");
  if (Array.isArray(object) || typeof object === "string") {
    const element = object[index];
    if (element !== undefined) return element;
    return new Absent(`there is no element ${index} of ${describe(object)}`);
  }
  return readMember(machine, object, String(index), node);
}

/** `object.name = datum`. */
export function writeMember(
  machine: Machine,
  object: Datum,
  name: string,
  datum: Datum,
  node: ts.Node,
): void {
  if (object instanceof RecordDatum) {
    object.fields.set(name, datum);
    return;
  }
  if (FORBIDDEN.has(name)) machine.fail(node, `"${name}" is not available in a definition`);
  if (object instanceof InstanceDatum) {
    const accessor = lookUp(object.class, (own) => own.accessors, name);
    if (accessor?.found.set) {
      const setter = new FunctionDatum(name, accessor.found.set, accessor.home.scope, accessor.home);
      machine.call(setter, [datum], node, object);
    } else if (accessor) machine.fail(node, `"${name}" has a getter but no setter`);
    else object.fields.set(name, datum);
    return;
  }
  machine.fail(node, `a field of ${describe(object)} can't be set`);
}

/** `object[key] = datum`. An array grows by one element at a time. */
export function writeElement(
  machine: Machine,
  object: Datum,
  key: Datum,
  datum: Datum,
  node: ts.ElementAccessExpression,
): void {
  if (!Array.isArray(object)) {
    if (typeof key !== "string" && typeof key !== "number") {
      machine.mismatch(key, node.argumentExpression, "a key", "a string or a number");
    }
    writeMember(machine, object, String(key), datum, node);
    return;
  }
  const index = machine.number(key, node.argumentExpression, "an index");
  if (!Number.isInteger(index) || index < 0 || index > object.length) {
    machine.fail(
      node,
      `element ${index} of ${describe(object)} can't be set`,
      "Use push to make an array longer.",
    );
  }
  object[index] = datum;
}
