/** @file What lib.ts tells TypeScript there is, the evaluator has, and the other way round. */
import { ts } from "ts-morph";
import { expect, test } from "vitest";
import { constructors, globals } from "../../src/frontend/builtins.ts";
import { LIBRARY } from "../../src/frontend/lib.ts";
import { arrayMethods, numberMethods, stringMethods } from "../../src/frontend/methods.ts";
import { NativeDatum } from "../../src/frontend/values.ts";

const file = ts.createSourceFile("lib.d.ts", LIBRARY, ts.ScriptTarget.ES2022, true);

/** Names of the members of an interface. */
function members(name: string): string[] {
  return file.statements.flatMap((statement) =>
    ts.isInterfaceDeclaration(statement) && statement.name.text === name
      ? statement.members.flatMap((member) =>
          member.name && ts.isIdentifier(member.name) ? [member.name.text] : [],
        )
      : [],
  );
}

const sorted = (names: Iterable<string>): string[] => [...new Set(names)].sort();

test.each([
  ["arrays", [...members("ReadonlyArray"), ...members("Array")], arrayMethods],
  ["strings", members("String"), stringMethods],
  ["numbers", members("Number"), numberMethods],
])("the methods of %s", (_, declared, methods) => {
  expect(sorted(declared.filter((name) => name !== "length"))).toEqual(sorted(methods.keys()));
});

test.each([
  ["Math", "Math"],
  ["Array", "ArrayConstructor"],
  ["Object", "ObjectConstructor"],
  ["Number", "NumberConstructor"],
])("the members of %s", (name, type) => {
  const datum = globals.get(name);
  expect(sorted(members(type))).toEqual(sorted(datum instanceof NativeDatum ? datum.members.keys() : []));
});

test("the names that need no import", () => {
  const declared = file.statements.flatMap((statement) =>
    ts.isVariableStatement(statement)
      ? statement.declarationList.declarations.map((own) => own.name.getText())
      : [],
  );
  // Symbol is there for the types of iterables alone; undefined needs no declaration.
  const known = [...globals.keys(), ...constructors.keys(), "Symbol"].filter((name) => name !== "undefined");
  expect(sorted(declared)).toEqual(sorted(known));
});
