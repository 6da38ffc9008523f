/** @file Reads a graph from its text: the inverse of print.ts. Every mistake is a UserError with line and column. */
import { UserError } from "./error.ts";
import type { Attrs, AttrValue, Graph, Node, Output, Param, Region, Role, Update, Value } from "./graph.ts";
import { completeAttrs } from "./op.ts";
import { isKnownOp, recordOf } from "./ops/index.ts";
import { parseType, type TensorType } from "./type.ts";

const NAME = /^%([A-Za-z_][\w.*-]*)/;
const WORD = /^[A-Za-z_][\w.-]*/;
const NUMBER = /^-?(?:\d+\.?\d*(?:e[+-]?\d+)?|Infinity)/i;

/** Walks over one line. Columns count from 1. */
class Cursor {
  readonly text: string;
  readonly file: string;
  readonly line: number;
  at = 0;

  constructor(text: string, file: string, line: number) {
    this.text = text;
    this.file = file;
    this.line = line;
  }

  fail(message: string, remedy?: string): never {
    const frame = `${String(this.line).padStart(5)} | ${this.text}\n${" ".repeat(8 + this.at)}^`;
    throw new UserError(message, {
      location: `${this.file}:${this.line}:${this.at + 1}`,
      frame,
      ...(remedy !== undefined && { remedy }),
    });
  }

  skip(): void {
    while (this.text[this.at] === " ") this.at++;
  }

  /** Takes `token` if it is next. */
  take(token: string): boolean {
    this.skip();
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  expect(token: string): void {
    if (!this.take(token)) this.fail(`expected "${token}"`);
  }

  match(pattern: RegExp, what: string): RegExpExecArray {
    this.skip();
    const match = pattern.exec(this.text.slice(this.at));
    if (!match) this.fail(`expected ${what}`);
    this.at += match[0].length;
    return match;
  }

  expectEnd(): void {
    if (!this.ended()) this.fail("expected the end of the line");
  }

  /** Whether nothing but spaces remains. */
  ended(): boolean {
    this.skip();
    return this.at >= this.text.length;
  }
}

/** The statements of a text: lines that are neither empty nor comments. */
class Lines {
  readonly #lines: { text: string; number: number }[];
  readonly file: string;
  #next = 0;

  constructor(text: string, file: string) {
    this.file = file;
    this.#lines = text
      .split("\n")
      .map((line, i) => ({ text: line.trimEnd(), number: i + 1 }))
      .filter(({ text: line }) => line.trim() !== "" && !line.trimStart().startsWith("#"));
  }

  next(): Cursor {
    const line = this.#lines[this.#next++];
    if (!line) {
      const last = this.#lines.at(-1);
      throw new UserError('the text ends where "}" should be', {
        location: `${this.file}:${last ? last.number : 1}`,
      });
    }
    return new Cursor(line.text, this.file, line.number);
  }

  get done(): boolean {
    return this.#next >= this.#lines.length;
  }
}

/** Values that are known at a place, by name. */
class Scope {
  readonly values = new Map<string, Value>();

  define(cursor: Cursor, name: string, type: TensorType): Value {
    if (this.values.has(name)) cursor.fail(`%${name} is defined twice`);
    const value = { name, type };
    this.values.set(name, value);
    return value;
  }

  use(cursor: Cursor): Value {
    const start = cursor.at;
    const [, name] = cursor.match(NAME, "a value such as %x");
    const value = this.values.get(name);
    if (!value) {
      cursor.at = start;
      cursor.skip();
      cursor.fail(`%${name} is not defined before this line`);
    }
    return value;
  }
}

function parseAttr(cursor: Cursor): AttrValue {
  if (cursor.take("[")) {
    const list: number[] = [];
    while (!cursor.take("]")) {
      if (list.length > 0) cursor.expect(",");
      list.push(Number(cursor.match(NUMBER, "a number")[0]));
    }
    return list;
  }
  cursor.skip();
  if (cursor.text[cursor.at] === '"') {
    const [text] = cursor.match(/^"(?:[^"\\]|\\.)*"/, "a closing quote");
    try {
      return JSON.parse(text) as string;
    } catch {
      return cursor.fail(`${text} is not a string`);
    }
  }
  const number = NUMBER.exec(cursor.text.slice(cursor.at));
  if (number) {
    cursor.at += number[0].length;
    return Number(number[0]);
  }
  const [word] = cursor.match(WORD, "an attribute's value");
  return word === "true" ? true : word === "false" ? false : word;
}

/** An attribute's value from its text, as `printAttr` writes it. Throws a UserError where it is none. */
export function parseAttrText(text: string, file = "value"): AttrValue {
  const cursor = new Cursor(text, file, 1);
  const value = parseAttr(cursor);
  cursor.expectEnd();
  return value;
}

function parseAttrs(cursor: Cursor, op: string): Attrs {
  const given: Record<string, AttrValue> = {};
  const defaults = recordOf(op).attrs;
  for (;;) {
    cursor.skip();
    const start = cursor.at;
    if (cursor.ended() || /^[:{;]/.test(cursor.text.slice(cursor.at))) break;
    const [name] = cursor.match(WORD, "an attribute");
    const known = Object.hasOwn(defaults, name);
    if (known) cursor.expect("=");
    const value = known ? parseAttr(cursor) : undefined;
    const kind = (v: AttrValue | undefined) => (Array.isArray(v) ? "list" : typeof v);
    if (!known || kind(value) !== kind(defaults[name])) {
      cursor.at = start;
      const attributes = Object.keys(defaults).join(", ") || "no attributes";
      cursor.fail(
        known ? `${op}'s attribute ${name} is a ${kind(defaults[name])}` : `${op} has no attribute "${name}"`,
        `${op} takes ${attributes}.`,
      );
    }
    given[name] = value as AttrValue;
  }
  return completeAttrs(recordOf(op), given);
}

/** Types separated by commas outside brackets, up to `{`, `;` or the end. */
function parseTypes(cursor: Cursor): TensorType[] {
  const types: TensorType[] = [];
  do {
    cursor.skip();
    const start = cursor.at;
    const [text] = cursor.match(
      /^(?:\d+ x )?\w+(?:<\w+>)?\[[^\]]*\](?:\{[^}]*\})?/,
      "a type such as f32[4, 8]",
    );
    try {
      types.push(parseType(text));
    } catch (error) {
      cursor.at = start;
      cursor.fail((error as UserError).message, (error as UserError).remedy);
    }
  } while (cursor.take(","));
  return types;
}

function parseOneType(cursor: Cursor): TensorType {
  cursor.expect(":");
  const types = parseTypes(cursor);
  if (types.length !== 1) cursor.fail("expected one type");
  return types[0];
}

function parseLocation(cursor: Cursor): string {
  if (!cursor.take(";")) {
    cursor.expectEnd();
    return "";
  }
  const loc = cursor.text.slice(cursor.at).trim();
  cursor.at = cursor.text.length;
  return loc;
}

function parseValues(cursor: Cursor, scope: Scope): Value[] {
  const values: Value[] = [];
  cursor.skip();
  if (cursor.text[cursor.at] !== "%") return values;
  do values.push(scope.use(cursor));
  while (cursor.take(","));
  return values;
}

function parseNode(cursor: Cursor, lines: Lines, scope: Scope): Node {
  const wishes: { name: string; at: number }[] = [];
  cursor.skip();
  if (cursor.text[cursor.at] === "%") {
    do {
      cursor.skip();
      wishes.push({ at: cursor.at, name: cursor.match(NAME, "a value such as %x")[1] });
    } while (cursor.take(","));
    cursor.expect("=");
  }
  cursor.skip();
  const start = cursor.at;
  const [op] = cursor.match(WORD, "an op");
  if (!isKnownOp(op)) {
    cursor.at = start;
    cursor.fail(`there is no op "${op}"`, "docs/ops.md lists ours; --load FILE.ts adds those of a file.");
  }
  const operands = parseValues(cursor, scope);
  const attrs = parseAttrs(cursor, op);
  const types = cursor.take(":") ? parseTypes(cursor) : [];
  if (types.length !== wishes.length) cursor.fail(`${wishes.length} results but ${types.length} types`);
  const opens = cursor.take("{");
  if ((recordOf(op).sharding === "body") !== opens)
    cursor.fail(opens ? `${op} has no body` : `${op} needs a body in braces`);
  const loc = parseLocation(cursor);
  const body = opens ? parseRegion(lines) : null;
  const results = wishes.map(({ name, at }, i) => {
    cursor.at = at;
    return scope.define(cursor, name, types[i]);
  });
  return { op, operands, attrs, results, body, loc };
}

function parseRegion(lines: Lines): Region {
  const scope = new Scope();
  const params: Value[] = [];
  const nodes: Node[] = [];
  for (;;) {
    const cursor = lines.next();
    if (cursor.take("param ")) {
      const [, name] = cursor.match(NAME, "a value such as %x");
      params.push(scope.define(cursor, name, parseOneType(cursor)));
      cursor.expectEnd();
    } else if (cursor.take("return ")) {
      const returns = parseValues(cursor, scope);
      cursor.expectEnd();
      const close = lines.next();
      close.expect("}");
      close.expectEnd();
      return { params, nodes, returns };
    } else {
      nodes.push(parseNode(cursor, lines, scope));
    }
  }
}

function parseMesh(cursor: Cursor): Map<string, number> {
  const mesh = new Map<string, number>();
  if (!cursor.take("mesh(")) return mesh;
  while (!cursor.take(")")) {
    if (mesh.size > 0) cursor.expect(",");
    const [axis] = cursor.match(WORD, "an axis");
    if (mesh.has(axis)) cursor.fail(`axis "${axis}" is there twice`);
    cursor.expect("=");
    mesh.set(axis, Number(cursor.match(/^[1-9]\d*/, "a degree of 1 or more")[0]));
  }
  return mesh;
}

const ROLES: readonly Role[] = ["input", "param", "state"];

function parseParam(cursor: Cursor, role: Role, scope: Scope): Param {
  const [, name] = cursor.match(NAME, "a value such as %x");
  let init = "";
  if (cursor.take("init=")) {
    const value = parseAttr(cursor);
    if (typeof value !== "string" || !/^(zeros|ones|normal \d+\.?\d*(e-?\d+)?)$/.test(value)) {
      cursor.fail(`init=${String(value)} is not known`, 'Use zeros, ones or "normal 0.02".');
    }
    init = value;
  }
  return { role, value: scope.define(cursor, name, parseOneType(cursor)), init };
}

/** Reads one graph. `file` is named in errors. */
export function parse(text: string, file = "graph.ir"): Graph {
  const lines = new Lines(text, file);
  const head = lines.next();
  head.expect("graph ");
  const [name] = head.match(WORD, "the graph's name");
  const mesh = parseMesh(head);
  head.expect("{");
  head.expectEnd();
  const scope = new Scope();
  const params: Param[] = [];
  const nodes: Node[] = [];
  const outputs: Output[] = [];
  const updates: Update[] = [];
  for (;;) {
    const cursor = lines.next();
    const role = ROLES.find((word) => cursor.take(`${word} `));
    if (role) {
      params.push(parseParam(cursor, role, scope));
      cursor.expectEnd();
    } else if (cursor.take("return ")) {
      const [output] = cursor.match(/^[A-Za-z_][\w.*-]*/, "a name");
      cursor.expect("=");
      outputs.push({ name: output, value: scope.use(cursor) });
      cursor.expectEnd();
    } else if (cursor.take("update ")) {
      const param = scope.use(cursor);
      if (!params.some((own) => own.value === param))
        cursor.fail(`%${param.name} is not a parameter or state`);
      cursor.expect("=");
      updates.push({ param, value: scope.use(cursor) });
      cursor.expectEnd();
    } else if (cursor.take("}")) {
      cursor.expectEnd();
      break;
    } else nodes.push(parseNode(cursor, lines, scope));
  }
  if (!lines.done) lines.next().fail("expected nothing behind the graph");
  return { name, mesh, params, nodes, outputs, updates };
}
