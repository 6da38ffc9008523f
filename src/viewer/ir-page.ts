/** @file IR text as one HTML page without a script: every value links to where it is made, ops have the viewer's colors. */
import { readFileSync } from "node:fs";
import nunjucks from "nunjucks";
import { isOpName } from "../ir/ops/index.ts";
import { kindOfOp } from "./op-kind.ts";

/** Text of a line, which may be the place of a value (`id`), a link to one (`href`), or of a kind. */
interface Part {
  readonly text: string;
  readonly id?: string;
  readonly href?: string;
  readonly kind?: string;
}

interface Line {
  readonly kind: string;
  readonly parts: readonly Part[];
}

export interface IrStage {
  readonly pass: string;
  /** A graph, a plan, or a unified diff of two graphs. */
  readonly text: string;
}

/** The page of a model's stages. */
export function irPage(name: string, stages: readonly IrStage[]): string {
  const template = readFileSync(new URL("./ir-page.html.njk", import.meta.url), "utf8");
  const environment = new nunjucks.Environment(null, { autoescape: true });
  const view = {
    title: `${name} - Ithaca`,
    stages: stages.map(({ pass, text }, at) => ({
      title: pass === "input" ? `${name} before all passes` : `${name} after ${pass}`,
      lines: linesOf(text, `s${at}`),
    })),
  };
  return `${environment.renderString(template, view).trim()}\n`;
}

const NAME = /%[A-Za-z_][\w.*-]*/g;

/** Names are those of a graph or of one body: `place` is where in the page, a body's is made at its brace. */
class Names {
  readonly place: string;
  readonly outer: Names | null;
  readonly #seen = new Set<string>();

  constructor(place: string, outer: Names | null) {
    this.place = place;
    this.outer = outer;
  }

  define(name: string): Part {
    if (this.#seen.has(name)) return this.use(name);
    this.#seen.add(name);
    return { text: name, id: this.#idOf(name) };
  }

  use(name: string): Part {
    return this.#seen.has(name) ? { text: name, href: this.#idOf(name) } : { text: name };
  }

  #idOf(name: string): string {
    return `${this.place}-${name.slice(1)}`;
  }
}

function linesOf(text: string, place: string): Line[] {
  const isDiff = text.startsWith("--- ");
  let names = new Names(place, null);
  let bodies = 0;
  return text
    .trimEnd()
    .split("\n")
    .map((line) => {
      const kind = isDiff ? diffKind(line) : "";
      const parts = kind === "hunk" ? [{ text: line }] : partsOf(line, names);
      // A diff shows a body in pieces, so there all names are of one place.
      if (!isDiff && /\{( +;.*)?$/.test(line) && !line.startsWith("graph "))
        names = new Names(`${place}-b${++bodies}`, names);
      else if (!isDiff && /^ *\}$/.test(line)) names = names.outer ?? names;
      return { kind, parts };
    });
}

function diffKind(line: string): string {
  if (/^(---|\+\+\+|@@) /.test(line)) return "hunk";
  return line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : "";
}

function partsOf(line: string, names: Names): Part[] {
  const [, statement, loc] = /^(.*?)( ; \S+)?$/s.exec(line) as unknown as [
    string,
    string,
    string | undefined,
  ];
  // A step of the plan has its number and lane in front.
  const made = /^[ +-]*(?:\d+ \w+ +)?(?:(?:input|param|state) %\S+|%\S+(?:, %\S+)* =)/.exec(statement);
  const definition = made?.[0].length ?? 0;
  const parts: Part[] = [];
  let at = 0;
  for (const match of statement.matchAll(NAME)) {
    parts.push(...wordsOf(statement.slice(at, match.index)));
    parts.push(match.index < definition ? names.define(match[0]) : names.use(match[0]));
    at = match.index + match[0].length;
  }
  parts.push(...wordsOf(statement.slice(at)));
  return loc === undefined ? parts : [...parts, { text: loc, kind: "loc" }];
}

/** Text between values; the op in it, if there is one, has its kind. */
function wordsOf(text: string): Part[] {
  const op = /^((?:@\d+)? ?=? ?)([a-z_]\w*)(.*)$/s.exec(text);
  if (!op || !isOpName(op[2])) return text === "" ? [] : [{ text }];
  return [{ text: op[1] }, { text: op[2], kind: kindOfOp(op[2]) }, { text: op[3] }];
}
