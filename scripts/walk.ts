/** @file The excerpts of ARCHITECTURE.md: one line of a Llama block in the compiler's own output, from definition to kernel. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Compiled, compileConfig } from "../src/compile.ts";
import { loadConfig } from "../src/config/load.ts";
import { print } from "../src/ir/print.ts";
import { excerpt, type Wanted } from "../src/plan/excerpt.ts";

const pathOf = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The lines of a file from the first that holds `from` to the next that holds `to`. */
function between(text: string, from: string, to: string): string {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => line.includes(from));
  const last = lines.findIndex((line, i) => i >= first && line.includes(to));
  if (first < 0 || last < 0) throw new Error(`no lines from "${from}" to "${to}"`);
  return lines.slice(first, last + 1).join("\n");
}

const narrow = (line: string): string => line.trim().replace(/ {2,}/g, "  ");

function linesOf(text: string, pattern: RegExp): string {
  const lines = text.split("\n").filter((line) => pattern.test(line));
  if (lines.length === 0) throw new Error(`no line is ${pattern}`);
  return lines.map(narrow).join("\n");
}

/** Lines of a part of the graph after a pass that match. */
function irOf({ stages }: Compiled, pass: string, wanted: Wanted, pattern: RegExp): string {
  const stage = stages.find((own) => own.pass === pass);
  if (!stage) throw new Error(`there is no pass ${pass}`);
  return linesOf(print(excerpt(stage.graph, wanted)), pattern);
}

async function excerpts(): Promise<Record<string, string>> {
  const compiled = await compileConfig(loadConfig(pathOf("examples/walk/config.yaml"), []));
  const source = compiled.sources.map(({ text }) => text).find((text) => text.includes("%L3.out.1@")) ?? "";
  const line = { module: "llama.ts:101" };
  const header = readFileSync(pathOf("runtime/kernels/cpu/attention.h"), "utf8");
  return {
    definition: between(
      readFileSync(pathOf("src/models/llama.ts"), "utf8"),
      "const q = rope(",
      "return this.o_proj",
    ).replace(/^ {4}/gm, ""),
    input: irOf(compiled, "input", line, / = attention /),
    precision: irOf(compiled, "precision", { module: "q_proj" }, /^ *%.* = /),
    ulysses: irOf(compiled, "ulysses", line, /^ *%.* = /),
    unroll: irOf(compiled, "unroll", { ...line, layer: 3 }, / = attention /),
    differentiate: irOf(compiled, "differentiate", { ...line, layer: 3 }, /^ *%d\..* = /),
    optimizer: irOf(
      compiled,
      "optimizer",
      { layer: 3 },
      /^ *(%d\.\S*|update %\S*)layers\.3\.self_attn\.q_proj\.weight(\.1 = all_reduce| = %)/,
    ),
    plan: linesOf(compiled.planText, /^ *\d+ \w+ +%L3\.(q\.1|out\.1|out)@/),
    code: between(source, "compute %L3.out.1@", "rank.end();").replace(/^ {2}/gm, ""),
    kernel: between(header, "// q, out [batch", "float* lse, void* workspace);"),
  };
}

/** The page with every excerpt as it is now: what stands in the block behind `<!-- walk: NAME -->`. */
export async function withExcerpts(page: string): Promise<string> {
  const all = await excerpts();
  return page.replace(/(<!-- walk: (\w+) -->\n```\w*\n).*?(?=```)/gs, (_, head: string, name: string) => {
    if (!(name in all)) throw new Error(`there is no excerpt "${name}"`);
    return `${head}${all[name]}\n`;
  });
}
