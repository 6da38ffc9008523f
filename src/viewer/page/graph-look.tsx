/** @file The graph after a pass, a block a layer; a block that is opened is laid out as a graph. */
import dagre from "@dagrejs/dagre";
import { useMemo, useState } from "preact/hooks";
import type { ViewBlock, ViewData, ViewNode } from "../view-data.ts";
import { kindOfOp } from "../op-kind.ts";
import { printCount } from "../../ir/units.ts";
import type { Pick } from "./pick.ts";

interface GraphProps {
  readonly data: ViewData;
  readonly stage: number;
  readonly onStage: (stage: number) => void;
  readonly pick: Pick | null;
  readonly onPick: (pick: Pick) => void;
}

/** Blocks of no more nodes than this stand open by themselves, if they are of a layer. */
const MOST_OPEN = 80;

export function GraphLook({ data, stage, onStage, pick, onPick }: GraphProps) {
  const { blocks } = data.stages[stage];
  const firstLayer = blocks.findIndex(({ title, nodes }) => /layers\.|^layer/.test(title) && nodes.length <= MOST_OPEN);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const keyOf = (index: number) => `${stage} ${index}`;
  const holds = (block: ViewBlock) =>
    pick !== null && block.nodes.some(({ results }) => results.some(({ name }) => name === pick));
  const isOpen = (block: ViewBlock, index: number) =>
    opened.has(keyOf(index)) !== (index === firstLayer || holds(block));
  const toggle = (index: number) => {
    const next = new Set(opened);
    if (!next.delete(keyOf(index))) next.add(keyOf(index));
    setOpened(next);
  };
  return (
    <section class="graph">
      <div class="stages">
        {data.stages.map(({ pass }, i) => (
          <button type="button" key={pass} class={i === stage ? "on" : ""} onClick={() => onStage(i)}>
            {pass}
          </button>
        ))}
      </div>
      {blocks.map((block, index) => (
        <article key={keyOf(index)} class={block.phase}>
          <button type="button" class="title" onClick={() => toggle(index)}>
            <span>{isOpen(block, index) ? "▾" : "▸"}</span> <b>{block.title}</b>
            {block.times > 1 && <em> x {block.times}</em>}
            <small>
              {block.phase}, {block.nodes.length} nodes,{" "}
              {printCount(block.nodes.reduce((total, { flops }) => total + flops, 0), "FLOP")}
              <Moves block={block} kind="comm" word={["collective", "collectives"]} />
              <Moves block={block} kind="offload" word={["copy", "copies"]} />
            </small>
          </button>
          {isOpen(block, index) && <Drawing block={block} pick={pick} onPick={onPick} />}
        </article>
      ))}
    </section>
  );
}

interface MovesProps {
  readonly block: ViewBlock;
  readonly kind: string;
  readonly word: readonly [one: string, many: string];
}

function Moves({ block, kind, word: [one, many] }: MovesProps) {
  const count = block.nodes.filter(({ op }) => kindOfOp(op) === kind).length;
  if (count === 0) return null;
  return (
    <span>
      , <i class={`dot ${kind}`} /> {count} {count === 1 ? one : many}
    </span>
  );
}

const NODE_HEIGHT = 40;
const CHARACTER = 6.7;

interface Laid {
  readonly width: number;
  readonly height: number;
  readonly nodes: readonly { readonly x: number; readonly y: number; readonly width: number; readonly index: number }[];
  readonly edges: readonly { readonly path: string; readonly label: string; readonly x: number; readonly y: number }[];
}

/** Casts of weights stand beside every product and say nothing about the flow. */
const isOfWeight = ({ op, operands }: ViewNode): boolean => op === "cast" && /\.(weight|bias)$/.test(operands[0] ?? "");

/** Layered drawing (Sugiyama et al. 1981). Weights and what comes from other blocks are not drawn. */
function layOut(nodes: readonly ViewNode[]): Laid {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "TB", nodesep: 14, ranksep: 34, marginx: 12, marginy: 12 });
  graph.setDefaultEdgeLabel(() => ({}));
  const makers = new Map<string, number>();
  nodes.forEach(({ op, attrs, results }, index) => {
    const longest = Math.max(op.length + Math.min(attrs.length, 24), (results[0]?.name.length ?? 0) + 1);
    graph.setNode(String(index), { width: longest * CHARACTER + 26, height: NODE_HEIGHT });
    for (const { name } of results) makers.set(name, index);
  });
  const types = new Map(nodes.flatMap(({ results }) => results.map(({ name, type }) => [name, type])));
  nodes.forEach(({ operands }, index) => {
    for (const name of new Set(operands)) {
      const from = makers.get(name);
      if (from === undefined || from === index) continue;
      const label = types.get(name) ?? "";
      graph.setEdge(String(from), String(index), { label, width: label.length * 3, height: 10 }, name);
    }
  });
  dagre.layout(graph);
  const { width = 0, height = 0 } = graph.graph();
  return {
    width,
    height,
    nodes: nodes.map((_, index) => {
      const { x, y, width: own } = graph.node(String(index));
      return { x, y, width: own, index };
    }),
    edges: graph.edges().map((edge: { v: string; w: string }) => {
      const { points, label, x = 0, y = 0 } = graph.edge(edge);
      const [first, ...rest] = points as { x: number; y: number }[];
      return { path: `M${first.x} ${first.y}${rest.map((at) => `L${at.x} ${at.y}`).join("")}`, label: label as string, x, y };
    }),
  };
}

function Drawing({ block, pick, onPick }: { block: ViewBlock; pick: Pick | null; onPick: (pick: Pick) => void }) {
  const nodes = useMemo(() => block.nodes.filter((node) => !isOfWeight(node)), [block]);
  const laid = useMemo(() => layOut(nodes), [nodes]);
  return (
    <div class="drawing">
      <svg width={laid.width} height={laid.height} role="img" aria-label={block.title}>
        <defs>
          <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
            <path d="M0 0L8 4L0 8z" />
          </marker>
        </defs>
        {laid.edges.map(({ path, label, x, y }) => (
          <g key={`${path}`} class="edge">
            <path d={path} marker-end="url(#tip)" />
            <text x={x} y={y}>
              {label}
            </text>
          </g>
        ))}
        {laid.nodes.map(({ x, y, width, index }) => {
          const { op, attrs, results, loc } = nodes[index];
          const name = results[0]?.name ?? "";
          return (
            <g
              key={index}
              class={`node ${kindOfOp(op)} ${name === pick ? "on" : ""}`}
              transform={`translate(${x - width / 2} ${y - NODE_HEIGHT / 2})`}
              onClick={() => onPick(name)}
            >
              <title>{`%${name} = ${op} ${attrs}\n${results.map(({ type }) => type).join(", ")}\n${loc}`}</title>
              <rect width={width} height={NODE_HEIGHT} rx="5" />
              <text x="10" y="16" class="op">
                {op} <tspan>{attrs.length > 24 ? `${attrs.slice(0, 23)}…` : attrs}</tspan>
              </text>
              <text x="10" y="31" class="name">
                %{name}
              </text>
            </g>
          );
        })}
      </svg>
    </div>
  );
}
