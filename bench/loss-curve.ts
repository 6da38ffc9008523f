/**
 * @file Draws the loss curve of a run as an SVG, from its metrics.jsonl.
 *
 *     npx tsx bench/loss-curve.ts runs/demo/metrics.jsonl docs/loss.svg
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";

/** Steps that the smooth line is the mean of. */
const window = 20;

const [input, output] = process.argv.slice(2);
if (!input || !output) {
  console.error("usage: npx tsx bench/loss-curve.ts METRICS.jsonl OUTPUT.svg");
  process.exit(2);
}

let tokens = 0;
const rows = readFileSync(input, "utf8")
  .trim()
  .split("\n")
  .map((line) => {
    const metrics = JSON.parse(line) as { loss: number; tokens: number };
    tokens += metrics.tokens;
    return { tokens, loss: metrics.loss };
  });

const axis = { grid: true, gridColor: "#e5e5e5", domainColor: "#999", tickColor: "#999" };
const x = {
  field: "tokens",
  type: "quantitative",
  title: "tokens",
  axis: { ...axis, format: "~s" },
} as const;
const y = { type: "quantitative", title: "loss", scale: { zero: false }, axis } as const;
const spec: TopLevelSpec = {
  width: 640,
  height: 320,
  background: "white",
  config: { font: "sans-serif", view: { stroke: null } },
  data: { values: rows },
  transform: [{ window: [{ op: "mean", field: "loss", as: "mean" }], frame: [-window + 1, 0] }],
  layer: [
    { mark: { type: "line", color: "#b8cbe8", strokeWidth: 1 }, encoding: { x, y: { ...y, field: "loss" } } },
    { mark: { type: "line", color: "#1f4e9c", strokeWidth: 2 }, encoding: { x, y: { ...y, field: "mean" } } },
  ],
};

const view = new View(parse(compile(spec).spec), { renderer: "none" });
writeFileSync(output, await view.toSVG());
