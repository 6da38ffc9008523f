/** @file Files of a definition: imports, exports, and running the top of each file once. */
import { ts } from "ts-morph";
import { suggestion } from "../ir/nearest.ts";
import { hasModifier } from "./classes.ts";
import type { Machine } from "./machine.ts";
import { hoist } from "./statements.ts";
import { type Binding, NativeDatum, Scope } from "./values.ts";

/** What a file exports, in order. */
export type Exports = Map<string, Binding>;

export class Linker {
  readonly #machine: Machine;
  readonly #exports = new Map<ts.SourceFile, Exports>();

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Runs the top of `file` and of what it imports, once. A cycle of imports sees what was declared so far. */
  load(file: ts.SourceFile): Exports {
    const known = this.#exports.get(file);
    if (known) return known;
    const exports: Exports = new Map();
    this.#exports.set(file, exports);
    const scope = new Scope(null);
    hoist(file.statements, scope);
    for (const statement of file.statements)
      if (ts.isImportDeclaration(statement)) this.#import(statement, scope);
    for (const statement of file.statements) {
      if (ts.isImportDeclaration(statement)) continue;
      if (ts.isExportDeclaration(statement)) this.#export(statement, scope, exports);
      else if (!this.#declared(statement, scope)) this.#machine.execute(statement, scope);
      if (hasModifier(statement, ts.SyntaxKind.ExportKeyword)) this.#exported(statement, scope, exports);
    }
    return exports;
  }

  /** `declare function rope(...)` in our own files is where the compiler's function takes its place. */
  #declared(statement: ts.Statement, scope: Scope): boolean {
    const machine = this.#machine;
    if (!hasModifier(statement, ts.SyntaxKind.DeclareKeyword)) return false;
    if (!machine.isLibrary(statement)) {
      machine.fail(statement, "declare is not supported in a definition", "Define it, or import it.");
    }
    if (ts.isFunctionDeclaration(statement) && statement.name) {
      const native = machine.tables.natives.get(statement.name.text);
      if (!native)
        throw new Error(`src/nn declares ${statement.name.text}, which the frontend does not have`);
      scope.declare(native.name, native, true);
    }
    return true;
  }

  #exported(statement: ts.Statement, scope: Scope, exports: Exports): void {
    const names: string[] = [];
    if (ts.isVariableStatement(statement)) {
      for (const { name } of statement.declarationList.declarations) collectNames(name, names);
    } else if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) {
      const { name } = statement;
      if (!name) this.#machine.fail(statement, "what is exported needs a name");
      names.push(name.text);
    }
    for (const name of names) exports.set(name, scope.bindings.get(name) as Binding);
  }

  #export(node: ts.ExportDeclaration, scope: Scope, exports: Exports): void {
    const from = node.moduleSpecifier && this.#file(node.moduleSpecifier);
    if (node.isTypeOnly) return;
    const source = from && this.load(from);
    if (!node.exportClause) {
      for (const [name, binding] of source ?? []) exports.set(name, binding);
      return;
    }
    if (!ts.isNamedExports(node.exportClause)) this.#machine.unsupported(node);
    for (const element of node.exportClause.elements) {
      if (element.isTypeOnly) continue;
      const name = (element.propertyName ?? element.name).text;
      const binding = source ? source.get(name) : scope.find(name);
      // A name that is no value is a type.
      if (binding) exports.set(element.name.text, binding);
    }
  }

  #import(node: ts.ImportDeclaration, scope: Scope): void {
    const machine = this.#machine;
    const clause = node.importClause;
    const from = this.#file(node.moduleSpecifier);
    if (clause?.phaseModifier === ts.SyntaxKind.TypeKeyword) return;
    const exports = this.load(from);
    if (!clause) return;
    if (clause.name)
      machine.fail(clause.name, "a definition has no default export", "Import by name: import { ... }");
    const bindings = clause.namedBindings;
    if (!bindings) return;
    if (ts.isNamespaceImport(bindings)) {
      const members = new Map([...exports].map(([name, binding]) => [name, binding.datum]));
      scope.declare(bindings.name.text, new NativeDatum(bindings.name.text, null, members), true);
      return;
    }
    for (const element of bindings.elements) {
      if (element.isTypeOnly) continue;
      const name = (element.propertyName ?? element.name).text;
      const binding = exports.get(name);
      if (binding) scope.bindings.set(element.name.text, binding);
      else if (!declaresType(from, name, (specifier, within) => machine.sources.resolve(within, specifier))) {
        const module = (node.moduleSpecifier as ts.StringLiteral).text;
        machine.fail(
          element,
          `"${module}" has no "${name}"`,
          suggestion(name, [...exports.keys()], "names there"),
        );
      }
    }
  }

  #file(specifier: ts.Expression): ts.SourceFile {
    const machine = this.#machine;
    const name = (specifier as ts.StringLiteral).text;
    const file = machine.sources.resolve(specifier.getSourceFile(), name);
    if (file) return file;
    if (/^\.\.?\//.test(name)) {
      return machine.fail(
        specifier,
        `there is no definition file "${name}"`,
        'Relative imports end in .ts: "./blocks.ts".',
      );
    }
    return machine.fail(
      specifier,
      `"${name}" can't be imported into a definition`,
      name === "ithaca"
        ? 'A definition imports "ithaca/nn". If this file has ops of your own, name it in config.yaml: ops: [./my-op.ts]'
        : 'A definition imports "ithaca/nn" and definition files beside it, such as "./blocks.ts".',
    );
  }
}

function collectNames(name: ts.BindingName, names: string[]): void {
  if (ts.isIdentifier(name)) names.push(name.text);
  else
    for (const element of name.elements)
      if (!ts.isOmittedExpression(element)) collectNames(element.name, names);
}

/** Whether `name` is an interface or type that `file` exports, itself or from another. */
function declaresType(
  file: ts.SourceFile,
  name: string,
  resolve: (specifier: string, within: ts.SourceFile) => ts.SourceFile | undefined,
): boolean {
  return file.statements.some((statement) => {
    if (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement))
      return statement.name.text === name;
    if (!ts.isExportDeclaration(statement) || !statement.moduleSpecifier) return false;
    const from = resolve((statement.moduleSpecifier as ts.StringLiteral).text, file);
    return from !== undefined && declaresType(from, name, resolve);
  });
}
