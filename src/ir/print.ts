/**
 * @file Graphs as text. The text is the program: parse.ts reads back exactly what is printed here.
 *
 * One statement a line, in three columns at fixed places: the statement, its type, where it comes from. Fixed, not
 * fitted, so that one long name doesn't move every line of a diff.
 */
import type { Attrs, AttrValue, Graph, Node, Region, Value } from "./graph.ts";
import { recordOf } from "./ops/index.ts";
import { type Mesh, printType } from "./type.ts";

const TYPE_COLUMN = 64;
const LOCATION_COLUMN = 104;

function columns(statement: string, type: string, loc: string, opens = ""): string {
  let line = type === "" ? statement : `${statement.padEnd(TYPE_COLUMN)} : ${type}`;
  if (opens) line += ` ${opens}`;
  return loc === "" ? line : `${line.padEnd(LOCATION_COLUMN)} ; ${loc}`;
}

const BARE = /^[A-Za-z_][\w.-]*$/;

/** An attribute's value as text: a number, true or false, a word or quoted string, a list of numbers. */
export function printAttr(value: AttrValue): string {
  if (Array.isArray(value)) return `[${value.map(printAttr).join(", ")}]`;
  if (Object.is(value, -0)) return "-0";
  if (typeof value === "string" && (!BARE.test(value) || value === "true" || value === "false"))
    return JSON.stringify(value);
  return String(value);
}

/** Attributes that differ from the op's defaults, each ` name=value`. */
export function printAttrs(op: string, attrs: Attrs): string {
  const defaults = recordOf(op).attrs;
  return Object.entries(attrs)
    .filter(([name, value]) => printAttr(value) !== printAttr(defaults[name]))
    .map(([name, value]) => ` ${name}=${printAttr(value)}`)
    .join("");
}

const names = (values: readonly Value[]): string => values.map((value) => `%${value.name}`).join(", ");

/** A node without its body, in columns. */
export function printNode(node: Node, indent = "  "): string {
  const left = node.results.length > 0 ? `${names(node.results)} = ` : "";
  const operands = node.operands.length > 0 ? ` ${names(node.operands)}` : "";
  const statement = `${indent}${left}${node.op}${operands}${printAttrs(node.op, node.attrs)}`;
  const types = node.results.map((result) => printType(result.type)).join(", ");
  return columns(statement, types, node.loc, node.body ? "{" : "");
}

function printNodes(nodes: readonly Node[], indent: string): string[] {
  return nodes.flatMap((node) => [
    printNode(node, indent),
    ...(node.body ? printRegion(node.body, indent) : []),
  ]);
}

function printRegion(region: Region, indent: string): string[] {
  const inner = `${indent}  `;
  return [
    ...region.params.map((param) => columns(`${inner}param %${param.name}`, printType(param.type), "")),
    ...printNodes(region.nodes, inner),
    `${inner}return ${names(region.returns)}`,
    `${indent}}`,
  ];
}

export function printMesh(mesh: Mesh): string {
  return mesh.size === 0 ? "" : ` mesh(${[...mesh].map(([axis, degree]) => `${axis}=${degree}`).join(", ")})`;
}

/** The whole graph, ending with a newline. */
export function print(graph: Graph): string {
  return `${[
    `graph ${graph.name}${printMesh(graph.mesh)} {`,
    ...graph.params.map(({ role, value, init }) =>
      columns(
        `  ${role} %${value.name}${init === "" ? "" : ` init=${printAttr(init)}`}`,
        printType(value.type),
        "",
      ),
    ),
    ...printNodes(graph.nodes, "  "),
    ...graph.outputs.map(({ name, value }) => `  return ${name} = %${value.name}`),
    ...graph.updates.map(({ param, value }) => `  update %${param.name} = %${value.name}`),
    "}",
  ].join("\n")}\n`;
}
