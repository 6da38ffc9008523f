/** @file What the expressions of a definition evaluate to. Nothing here is an object of the host that code could reach into. */
import type { ts } from "ts-morph";
import type { Value } from "../ir/graph.ts";

export type Datum =
  | null
  | undefined
  | boolean
  | number
  | string
  | Datum[]
  | Absent
  | RecordDatum
  | TensorDatum
  | ParameterDatum
  | InstanceDatum
  | ClassDatum
  | FunctionDatum
  | NativeDatum
  | ErrorDatum;

/** An undefined that knows where it came from, so that using it later can say what was missing. */
export class Absent {
  /** Completes a message: `config has no "hiden_size"`. */
  readonly reason: string;
  readonly remedy: string;
  constructor(reason: string, remedy = "") {
    this.reason = reason;
    this.remedy = remedy;
  }
}

/** An object literal, or an object of the configuration. `origin` is what messages call it. */
export class RecordDatum {
  readonly fields: Map<string, Datum>;
  readonly origin: string;
  constructor(fields: Map<string, Datum>, origin = "the object") {
    this.fields = fields;
    this.origin = origin;
  }
}

/** A value of the graph. */
export class TensorDatum {
  readonly value: Value;
  constructor(value: Value) {
    this.value = value;
  }
}

/** A weight. Its name, and with it its value, is known once the whole model has been built. */
export class ParameterDatum {
  readonly shape: readonly number[];
  readonly init: string;
  readonly node: ts.Node;
  value: Value | undefined;
  constructor(shape: readonly number[], init: string, node: ts.Node) {
    this.shape = shape;
    this.init = init;
    this.node = node;
  }
}

export class InstanceDatum {
  readonly class: ClassDatum;
  readonly fields = new Map<string, Datum>();
  constructor(cls: ClassDatum) {
    this.class = cls;
  }
}

export interface Accessor {
  readonly get?: ts.GetAccessorDeclaration;
  readonly set?: ts.SetAccessorDeclaration;
}

export class ClassDatum {
  readonly name: string;
  readonly node: ts.ClassLikeDeclaration;
  readonly base: ClassDatum | null;
  readonly scope: Scope;
  readonly methods = new Map<string, ts.MethodDeclaration>();
  readonly accessors = new Map<string, Accessor>();
  readonly statics = new Map<string, Datum>();
  constructor(name: string, node: ts.ClassLikeDeclaration, base: ClassDatum | null, scope: Scope) {
    this.name = name;
    this.node = node;
    this.base = base;
    this.scope = scope;
  }

  /** The class itself, its base, and so on. */
  *chain(): Iterable<ClassDatum> {
    for (let at: ClassDatum | null = this; at !== null; at = at.base) yield at;
  }
}

export type FunctionNode =
  | ts.ArrowFunction
  | ts.FunctionExpression
  | ts.FunctionDeclaration
  | ts.MethodDeclaration
  | ts.ConstructorDeclaration
  | ts.GetAccessorDeclaration
  | ts.SetAccessorDeclaration;

/** A function of the definition. `home` is the class whose method it is, where `super` looks. */
export class FunctionDatum {
  readonly name: string;
  readonly node: FunctionNode;
  readonly scope: Scope;
  readonly home: ClassDatum | null;
  constructor(name: string, node: FunctionNode, scope: Scope, home: ClassDatum | null = null) {
    this.name = name;
    this.node = node;
    this.scope = scope;
    this.home = home;
  }
}

/** Calls back into the definition: how `map` calls its argument. */
export type CallBack = (callee: Datum, args: readonly Datum[]) => Datum;

/** What a native function may do besides compute: call back, count its work, refuse. */
export interface NativeContext {
  readonly call: CallBack;
  readonly node: ts.Node;
  readonly argumentNode: (index: number) => ts.Node;
  work(steps: number): void;
  /** Tells the trace that what is called back runs in a loop; see Trace.loop. */
  loop(): { iterate(): void; close(): void };
  fail(message: string, remedy?: string, node?: ts.Node): never;
}

export type Native = (args: readonly Datum[], context: NativeContext) => Datum;

/** A function that the compiler provides: an op, `Math.sqrt`, `Array.from`. */
export class NativeDatum {
  readonly name: string;
  readonly run: Native | null;
  readonly members: ReadonlyMap<string, Datum>;
  constructor(name: string, run: Native | null, members: ReadonlyMap<string, Datum> = new Map()) {
    this.name = name;
    this.run = run;
    this.members = members;
  }
}

/** `new Error("...")`. */
export class ErrorDatum {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

/** A variable. `ready` is false until its declaration has run. */
export interface Binding {
  datum: Datum;
  ready: boolean;
  readonly constant: boolean;
}

/** What `this` and `super` mean in a function that is not an arrow. */
export interface Receiver {
  readonly self: Datum;
  readonly home: ClassDatum | null;
}

export class Scope {
  readonly parent: Scope | null;
  readonly receiver: Receiver | null;
  readonly bindings = new Map<string, Binding>();

  constructor(parent: Scope | null, receiver: Receiver | null = null) {
    this.parent = parent;
    this.receiver = receiver;
  }

  declare(name: string, datum: Datum, constant = false): void {
    this.bindings.set(name, { datum, ready: true, constant });
  }

  find(name: string): Binding | undefined {
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent) {
      const binding = scope.bindings.get(name);
      if (binding) return binding;
    }
    return undefined;
  }

  /** The receiver of the function around this place; null at the top of a file. */
  enclosing(): Receiver | null {
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent) {
      if (scope.receiver) return scope.receiver;
    }
    return null;
  }

  /** All names in sight, for suggestions. */
  names(): string[] {
    const names: string[] = [];
    for (let scope: Scope | null = this; scope !== null; scope = scope.parent)
      names.push(...scope.bindings.keys());
    return names;
  }
}

/** A configuration as data. Keys such as "__proto__" are keys like any other. */
export function fromJson(json: unknown, origin: string): Datum {
  if (Array.isArray(json)) return json.map((item, i) => fromJson(item, `${origin}[${i}]`));
  if (typeof json === "object" && json !== null) {
    const fields = Object.entries(json).map(([key, item]): [string, Datum] => [
      key,
      fromJson(item, `${origin}.${key}`),
    ]);
    return new RecordDatum(new Map(fields), origin);
  }
  return json as Datum;
}
