/** @file config.yaml as text with positions, and the --set options on top of it: where every value came from. */
import { codeFrameColumns } from "@babel/code-frame";
import {
  type Document,
  isCollection,
  isMap,
  isNode,
  isScalar,
  LineCounter,
  type ParsedNode,
  parse,
  parseDocument,
} from "yaml";
import { UserError } from "../ir/error.ts";

/** Keys from the outside in. */
export type Path = readonly string[];

/** A place to point at: the key or the value of a path. */
export type Part = "key" | "value";

export class ConfigDocument {
  /** What stands before the line in messages, as the user typed it. */
  readonly file: string;
  private readonly text: string;
  private readonly lines = new LineCounter();
  private readonly document: Document.Parsed<ParsedNode>;
  private readonly overrides = new Map<string, string>();

  /** Throws UserError where the text isn't YAML. */
  constructor(text: string, file: string) {
    this.text = text;
    this.file = file;
    this.document = parseDocument(text, { lineCounter: this.lines, prettyErrors: false });
    const [error] = this.document.errors;
    if (error) throw this.syntaxError(error.message, error.pos);
    const { contents } = this.document;
    const isEmpty = contents === null || (isScalar(contents) && contents.value === null);
    if (!isEmpty && !isMap(contents)) {
      throw this.syntaxError("the file must be a mapping of keys to values", contents.range ?? [0, 1]);
    }
  }

  /** Applies one `key.path=value`; the value is read as YAML. Throws UserError where it isn't. */
  set(option: string): void {
    const equals = option.indexOf("=");
    const path = option.slice(0, equals).trim().split(".");
    if (equals < 1 || path.includes("")) {
      throw new UserError("an override is written key=value, or section.key=value", {
        location: `--set ${option}`,
        remedy: "For example --set max_steps=100 or --set memory.device_limit=16GiB.",
      });
    }
    let value: unknown;
    try {
      value = parse(option.slice(equals + 1));
    } catch (error) {
      const [reason = ""] = (error instanceof Error ? error.message : String(error)).split(/ at line |\n/, 1);
      throw new UserError(`the value is not YAML: ${reason}`, { location: `--set ${option}` });
    }
    // setIn() refuses to go into what isn't a mapping; such a value is replaced, and the schema judges the result.
    for (let depth = 1; depth < path.length; depth++) {
      const parent = path.slice(0, depth);
      if (!isCollection(this.document.getIn(parent, true))) {
        this.document.setIn(parent, this.document.createNode({}));
      }
    }
    this.document.setIn(path, this.document.createNode(value));
    this.overrides.set(path.join("."), option);
  }

  /** Plain values. Throws UserError for aliases that don't resolve. */
  values(): unknown {
    try {
      return this.document.toJS() ?? {};
    } catch (error) {
      throw new UserError(error instanceof Error ? error.message : String(error), { location: this.file });
    }
  }

  has(path: Path): boolean {
    return this.document.hasIn(path);
  }

  /** True if the value comes from --set, or something inside it does. */
  isOverridden(path: Path): boolean {
    return this.overrideOf(path) !== undefined;
  }

  /** Where a path stands: `location` and `frame` of a UserError. Of a missing one: the section it is missing in. */
  where(path: Path, part: Part): { location: string; frame?: string } {
    const option = this.overrideOf(path);
    if (option !== undefined) return { location: `--set ${option}` };
    for (let depth = path.length; depth > 0; depth--) {
      const range = this.rangeOf(path.slice(0, depth), depth === path.length ? part : "key");
      if (range) return this.at(range);
    }
    return { location: this.file };
  }

  /** Offset in the file, to sort errors by; those of options come last. */
  order(path: Path): number {
    if (this.isOverridden(path)) return Number.MAX_SAFE_INTEGER;
    return this.rangeOf(path, "key")?.[0] ?? 0;
  }

  private overrideOf(path: Path): string | undefined {
    for (let depth = path.length; depth > 0; depth--) {
      const option = this.overrides.get(path.slice(0, depth).join("."));
      if (option !== undefined) return option;
    }
    // An option may also have made a section wrong by what it put inside.
    const inside = `${path.join(".")}.`;
    return [...this.overrides].find(([key]) => path.length > 0 && key.startsWith(inside))?.[1];
  }

  private rangeOf(path: Path, part: Part): readonly [number, number] | undefined {
    const parent = path.length === 1 ? this.document.contents : this.document.getIn(path.slice(0, -1), true);
    if (!isMap(parent)) return undefined;
    const pair = parent.items.find(({ key }) => (isScalar(key) ? key.value : key) === path.at(-1));
    const node = part === "value" && isNode(pair?.value) ? pair.value : pair?.key;
    if (!isNode(node) || !node.range) return undefined;
    const [start, end] = node.range;
    // An empty value has no width: point at its key.
    if (end <= start && part === "value") return this.rangeOf(path, "key");
    return [start, end];
  }

  private at([start, end]: readonly [number, number]): { location: string; frame: string } {
    const from = this.lines.linePos(start);
    // A value of several lines is marked on its first.
    const lineEnd = this.text.indexOf("\n", start);
    const to = this.lines.linePos(lineEnd < 0 ? end : Math.min(end, lineEnd));
    const frame = codeFrameColumns(
      this.text,
      { start: { line: from.line, column: from.col }, end: { line: to.line, column: to.col } },
      { highlightCode: false, linesAbove: 2, linesBelow: 1 },
    );
    return { location: `${this.file}:${from.line}:${from.col}`, frame };
  }

  private syntaxError(message: string, [start, end]: readonly number[]): UserError {
    const first = message.split("\n", 1)[0] ?? message;
    return new UserError(first.replace(/:$/, ""), this.at([start ?? 0, end ?? (start ?? 0) + 1]));
  }
}
