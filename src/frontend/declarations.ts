/** @file Ops as a definition sees them, made from records: src/nn/ops.ts, and in place of a file with ops of the user's. */
import type { OpDefinition } from "../ir/op.ts";
import { attributesOf, isForModels, modelOps, resultsOf } from "./intrinsics.ts";

const HEADER = `/** @file The ops that a model may use. Generated from the records in src/ir/ops: BLESS=1 npx vitest run test/nn. */
import type { Tensor } from "./tensor.ts";
`;

/** The whole file, ending with a newline. */
export function declarations(): string {
  return [HEADER, ...modelOps.map(declaration)].join("\n");
}

/** What a definition finds in place of a file that exports `ops` under these names. */
export function declarationsOf(ops: ReadonlyMap<string, OpDefinition>): string {
  const own = [...ops].filter(([, record]) => isForModels(record));
  return [
    'import type { Tensor } from "ithaca/nn";\n',
    ...new Set(own.map(([, record]) => declaration(record).replace("export declare", "declare"))),
    `export { ${own.map(([name, record]) => `${record.name} as ${name}`).join(", ")} };\n`,
  ].join("\n");
}

function declaration(record: OpDefinition): string {
  const operands = record.operands.map((name) =>
    name.startsWith("...") ? `${name.slice(3)}: readonly Tensor[]` : `${name}: Tensor`,
  );
  const attributes = attributesType(record);
  // Laid out as the formatter would.
  const parameters =
    attributes === ""
      ? operands.join(", ")
      : operands.length === 0
        ? attributes.replaceAll(/\s+/g, " ").replace("; }", " }")
        : `${[...operands, attributes].map((own) => `\n  ${own},`).join("")}\n`;
  const results = resultsOf(record);
  const result =
    results.length === 1 ? "Tensor" : `{ ${results.map((name) => `${name}: Tensor`).join("; ")} }`;
  return `${comment(record.doc)}\nexport declare function ${record.name}(${parameters}): ${result};\n`;
}

/** The last parameter; "" for an op without attributes. */
function attributesType(record: OpDefinition): string {
  const attributes = attributesOf(record);
  if (attributes.length === 0) return "";
  const lines = attributes.map(({ name, fallback, required }) => {
    const type = Array.isArray(fallback) ? "readonly number[]" : typeof fallback;
    const note = required ? "" : `    /** Default: ${JSON.stringify(fallback)}. */\n`;
    return `${note}    ${name}${required ? "" : "?"}: ${type}${required ? "" : " | undefined"};\n`;
  });
  const optional = attributes.every(({ required }) => !required);
  return `attributes${optional ? "?" : ""}: {\n${lines.join("")}  }`;
}

/** A comment of lines of at most 110 characters. */
function comment(text: string): string {
  const words = text
    .replaceAll("*/", "* /")
    .replace(/([^.])$/, "$1.")
    .split(/\s+/);
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if (line !== "" && line.length + word.length + 1 > 105) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.length === 1 ? `/** ${line} */` : `/**\n${lines.map((own) => ` * ${own}\n`).join("")} */`;
}
