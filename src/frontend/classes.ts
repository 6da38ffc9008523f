/** @file Classes: declaring them, making instances, field by field in the order of their declaration. */
import { ts } from "ts-morph";
import { runBody } from "./functions.ts";
import type { Machine } from "./machine.ts";
import { propertyName } from "./patterns.ts";
import { ClassDatum, type Datum, FunctionDatum, InstanceDatum, Scope } from "./values.ts";

/** `new Class(...)`. */
export function construct(machine: Machine, cls: ClassDatum, args: readonly Datum[], node: ts.Node): Datum {
  const instance = new InstanceDatum(cls);
  machine.calling(node, () => initialise(machine, cls, instance, args, node));
  return instance;
}

/** Runs the constructor of `cls` on an instance; called again for the base by `super(...)`. */
export function initialise(
  machine: Machine,
  cls: ClassDatum,
  instance: InstanceDatum,
  args: readonly Datum[],
  node: ts.Node,
): void {
  const own = cls.node.members.find(ts.isConstructorDeclaration);
  if (cls.base === null) initialiseFields(machine, cls, instance);
  if (own?.body) {
    const receiver = { self: instance, home: cls };
    runBody(machine, `new ${cls.name}`, own, cls.scope, receiver, args, node);
    return;
  }
  if (cls.base) {
    initialise(machine, cls.base, instance, args, node);
    initialiseFields(machine, cls, instance);
  } else if (args.length > 0) {
    machine.fail(node, `new ${cls.name} takes no arguments, not ${args.length}`);
  }
}

/** Sets the fields that `cls` itself declares, in order. */
export function initialiseFields(machine: Machine, cls: ClassDatum, instance: InstanceDatum): void {
  const scope = new Scope(cls.scope, { self: instance, home: cls });
  for (const member of cls.node.members) {
    if (!ts.isPropertyDeclaration(member) || hasModifier(member, ts.SyntaxKind.StaticKeyword)) continue;
    if (hasModifier(member, ts.SyntaxKind.DeclareKeyword)) continue;
    const name = propertyName(machine, member.name, scope);
    instance.fields.set(name, member.initializer ? machine.evaluate(member.initializer, scope) : undefined);
  }
}

export function hasModifier(node: ts.Node, kind: ts.SyntaxKind): boolean {
  return (
    ts.canHaveModifiers(node) && (ts.getModifiers(node)?.some((modifier) => modifier.kind === kind) ?? false)
  );
}

/** Makes a class of its declaration: evaluates the base and static members, collects methods and accessors. */
export function declareClass(machine: Machine, node: ts.ClassLikeDeclaration, scope: Scope): ClassDatum {
  const extended = node.heritageClauses?.find((clause) => clause.token === ts.SyntaxKind.ExtendsKeyword);
  const baseNode = extended?.types[0]?.expression;
  const base = baseNode ? machine.evaluate(baseNode, scope) : null;
  if (base !== null && !(base instanceof ClassDatum)) {
    return machine.mismatch(base, baseNode ?? node, "what a class extends", "a class");
  }
  const cls = new ClassDatum(node.name?.text ?? "class", node, base, scope);
  if (node.name) scope.declare(node.name.text, cls, true);
  const statics = new Scope(scope, { self: cls, home: cls });
  for (const member of node.members) {
    if (ts.canHaveDecorators(member) && ts.getDecorators(member)?.length) machine.unsupported(member);
    if (ts.isConstructorDeclaration(member) || ts.isSemicolonClassElement(member)) continue;
    if (ts.isIndexSignatureDeclaration(member)) continue;
    if (ts.isClassStaticBlockDeclaration(member)) machine.unsupported(member);
    const name = propertyName(machine, member.name as ts.PropertyName, scope);
    const isStatic = hasModifier(member, ts.SyntaxKind.StaticKeyword);
    if (ts.isPropertyDeclaration(member)) {
      if (isStatic)
        cls.statics.set(name, member.initializer ? machine.evaluate(member.initializer, statics) : undefined);
    } else if (ts.isMethodDeclaration(member)) {
      if (!member.body) continue;
      if (isStatic) cls.statics.set(name, new FunctionDatum(name, member, scope, cls));
      else cls.methods.set(name, member);
    } else if (isStatic) machine.unsupported(member);
    else if (ts.isGetAccessorDeclaration(member)) {
      cls.accessors.set(name, { ...cls.accessors.get(name), get: member });
    } else if (ts.isSetAccessorDeclaration(member)) {
      cls.accessors.set(name, { ...cls.accessors.get(name), set: member });
    }
  }
  return cls;
}
