/**
 * @file Writes what is made of other things: docs/ops.md and docs/passes.md from the records, docs/ir.schema.json from the
 * schema, and the excerpts in ARCHITECTURE.md: `npm run docs`. With --check it only compares.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { irSchema } from "../src/ir/json.ts";
import type { OpDefinition } from "../src/ir/op.ts";
import { type OpName, opNames, recordOf } from "../src/ir/ops/index.ts";
import { printAttr } from "../src/ir/print.ts";
import { type TensorType, tensor } from "../src/ir/type.ts";
import { DEFAULTS, trainingPipeline } from "../src/passes/pipeline.ts";
import { withExcerpts } from "./walk.ts";

const pathOf = (path: string): string => fileURLToPath(new URL(`../${path}`, import.meta.url));

const MADE = "<!-- Made by `npm run docs` from the records. Don't edit. -->";

/** The rule of an op whose rule depends on attributes, for its default ones. */
function ruleOf(record: OpDefinition): string {
  if (typeof record.sharding === "string") return record.sharding;
  const example: TensorType = tensor("f32", [2, 3, 4]);
  try {
    return `${record.sharding(
      record.attrs,
      record.operands.map(() => example),
    )} (by default)`;
  } catch {
    return "depends on its attributes";
  }
}

function opSection(name: OpName): string {
  const record = recordOf(name);
  const attrs = Object.entries(record.attrs).map(([key, value]) => `\`${key}=${printAttr(value)}\``);
  const facts = [
    `operands ${record.operands.length > 0 ? record.operands.map((own) => `\`${own}\``).join(", ") : "none"}`,
    ...(record.results.length > 1 ? [`results ${record.results.map((own) => `\`${own}\``).join(", ")}`] : []),
    ...(attrs.length > 0 ? [`attributes ${attrs.join(", ")}`] : []),
    `sharding \`${ruleOf(record)}\``,
    ...(record.gradient || record.sharding === "body" ? [] : ["no gradient"]),
    ...(record.alias ? ["no bytes move"] : []),
  ];
  return `### ${name}\n\n${record.doc}\n\n${facts.map((fact) => `- ${fact}`).join("\n")}\n`;
}

export function opsPage(): string {
  const intro =
    "The vocabulary of the IR. Attributes are shown with their defaults; [ir.md](ir.md) says how to read a sharding rule.";
  return `${MADE}\n# Ops\n\n${intro}\n\n${opNames.map(opSection).join("\n")}`;
}

const textOf = (path: string): string => readFileSync(pathOf(path), "utf8");

/** What a person wrote, with files of the repository where `{{path}}` stands. */
function written(path: string): string {
  const languages: Readonly<Record<string, string>> = { ts: "ts", cc: "cpp" };
  return textOf(path).replace(/^\{\{(.*)\}\}$/gm, (_, file: string) => {
    const language = languages[file.split(".").at(-1) as string];
    return `\`\`\`${language}\n${textOf(file)}\`\`\``;
  });
}

export function passesPage(): string {
  const entries = trainingPipeline(DEFAULTS);
  const rows = entries
    .filter(({ pass }, i) => entries.findIndex((other) => other.pass === pass) === i)
    .map(({ pass, why }) => {
      const options = Object.entries(pass.options).map(([key, value]) => `\`${key}=${printAttr(value)}\``);
      return [
        `## ${pass.name}\n`,
        `The pass that ${pass.summary}.\n`,
        `- stands where it does because: ${why}`,
        `- numbers: ${pass.numerics}`,
        ...(pass.requires.length > 0 ? [`- requires ${pass.requires.join(", ")}`] : []),
        ...(pass.establishes.length > 0 ? [`- establishes ${pass.establishes.join(", ")}`] : []),
        ...(options.length > 0 ? [`- options ${options.join(", ")}`] : []),
        `- [source](../src/passes/${pass.name}.ts), which opens with what it does, before and after, and the price\n`,
      ].join("\n");
    });
  const order = entries.map(({ pass }) => `\`${pass.name}\``).join(", ");
  const intro =
    "The passes of a training step. *exact* keeps the numbers bit for bit, *reordered* sums in another order, *changed* gives " +
    "other numbers by design. After them `schedule` and `plan-memory` make a plan of the graph.";
  return `${MADE}\n# Passes\n\n${intro}\n\nIn order: ${order}.\n\n${rows.join("\n")}\n${written("scripts/write-a-pass.md")}`;
}

/** What `ithaca ir --json` prints, as a JSON schema; a graph alone is its definition "graph". */
export function irSchemaPage(): string {
  return `${JSON.stringify({ title: "ithaca ir --json", ...z.toJSONSchema(irSchema) }, null, 2)}\n`;
}

export function architecturePage(): Promise<string> {
  return withExcerpts(textOf("ARCHITECTURE.md"));
}

const pages = {
  "docs/ops.md": opsPage,
  "docs/passes.md": passesPage,
  "docs/ir.schema.json": irSchemaPage,
  "ARCHITECTURE.md": architecturePage,
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, page] of Object.entries(pages)) {
    const text = await page();
    if (!process.argv.includes("--check")) writeFileSync(pathOf(file), text);
    else if (textOf(file) !== text) {
      console.error(`${file} is stale: run npm run docs`);
      process.exitCode = 1;
    }
  }
}
