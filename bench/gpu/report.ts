/** @file What was found on a GPU, as JSON and as Markdown: only what was measured, and a word for what was not. */

export interface Check {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "not run";
  /** What it said, or why it was not run. */
  readonly detail: string;
  readonly seconds: number;
}

/** One side's step of one shape. */
export interface Measured {
  readonly seconds: number;
  readonly loss: number;
  /** The GPU's memory in use beyond what was in use before the process, in bytes: CUDA's context included. */
  readonly usedBytes: number;
  /** The arena of the plan; null for PyTorch. */
  readonly plannedBytes: number | null;
  /** How it was run: PyTorch's options. */
  readonly how: string;
}

/** A side that was not measured says why. */
export type Result = Measured | { readonly why: string };

export interface Row {
  readonly shape: string;
  readonly tokens: number;
  /** Of a step: causal, without recomputation. */
  readonly modelFlops: number;
  readonly ours: Result;
  readonly torch: Result;
}

export interface Longest {
  readonly side: "Ithaca" | "PyTorch";
  /** The longest that trained a step; null: none did. */
  readonly trained: number | null;
  /** How the search ended. */
  readonly detail: string;
}

export interface Report {
  readonly machine: Readonly<Record<string, string>>;
  /** Dense bf16 FLOP/s of the data sheet; null for a GPU that has none in the table. */
  readonly peakFlops: number | null;
  /** Memory of a process's CUDA context and libraries, in bytes; null where it was not measured. */
  readonly contextBytes: number | null;
  readonly checks: readonly Check[];
  readonly rows: readonly Row[];
  readonly longest: readonly Longest[];
}

export const isMeasured = (result: Result): result is Measured => "seconds" in result;

/** Ours over PyTorch's tokens/s; null unless both were measured. */
export function speedUp({ ours, torch }: Row): number | null {
  return isMeasured(ours) && isMeasured(torch) ? torch.seconds / ours.seconds : null;
}

/** How far the memory in use, less the context, is from the plan, as a part of the plan; null where it can't be said. */
export function offPlan({ ours }: Row, contextBytes: number | null): number | null {
  if (!isMeasured(ours) || ours.plannedBytes === null || contextBytes === null) return null;
  return (ours.usedBytes - contextBytes) / ours.plannedBytes - 1;
}

const GiB = 2 ** 30;
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");

function cells(row: Row, side: "ours" | "torch", peakFlops: number | null): string[] {
  const result = row[side];
  if (!isMeasured(result)) return [result.why, "-", "-"];
  const flops = row.modelFlops / result.seconds;
  const share = peakFlops === null ? "" : ` (${((100 * flops) / peakFlops).toFixed(1)}%)`;
  return [
    Math.round(row.tokens / result.seconds).toLocaleString("en"),
    `${(flops / 1e12).toFixed(0)}${share}`,
    `${(result.usedBytes / GiB).toFixed(2)}${result.how ? ` (${result.how})` : ""}`,
  ];
}

function goals({ rows, peakFlops, contextBytes }: Report): string[][] {
  const long = rows.filter(({ tokens }) => tokens >= 32768);
  const ups = long.map(speedUp).filter((up) => up !== null);
  const at = rows.find(({ tokens, ours }) => tokens === 131072 && isMeasured(ours));
  const mfu =
    at && isMeasured(at.ours) && peakFlops !== null
      ? `${((100 * at.modelFlops) / at.ours.seconds / peakFlops).toFixed(1)}%`
      : "not measured";
  const off = rows.map((row) => offPlan(row, contextBytes)).filter((part) => part !== null);
  const most = off.length > 0 ? `${(100 * Math.max(...off.map(Math.abs))).toFixed(2)}%` : "not measured";
  return [
    [
      "tokens/s at 32K and more, of PyTorch's",
      "1.3",
      ups.length > 0 ? Math.min(...ups).toFixed(2) : "not measured",
    ],
    ["causal MFU at 128K", "44%", mfu],
    ["measured peak from the planned, at most", "1%", most],
  ];
}

/** The report as a page. */
export function markdown(report: Report): string {
  const { machine, checks, rows, longest, peakFlops, contextBytes } = report;
  const sides = ["tokens/s", "TFLOP/s", "GiB in use"];
  const speed = rows.map((row) => [
    row.shape,
    row.tokens.toLocaleString("en"),
    ...cells(row, "ours", peakFlops),
    ...cells(row, "torch", peakFlops),
    speedUp(row)?.toFixed(2) ?? "-",
    isMeasured(row.ours) && row.ours.plannedBytes !== null ? (row.ours.plannedBytes / GiB).toFixed(2) : "-",
  ]);
  const parts = [
    "# On a GPU",
    table(["", ""], Object.entries(machine)),
    "    npm run test:gpu",
    "## Checks",
    table(
      ["check", "", "s", "what it said"],
      checks.map(({ name, outcome, seconds, detail }) => [
        name,
        outcome,
        seconds.toFixed(0),
        detail.replaceAll("|", "\\|").replaceAll("\n", "<br>"),
      ]),
    ),
  ];
  if (rows.length > 0) {
    parts.push(
      "## Speed and memory",
      "bf16 products on F32 weights on both sides, drawn weights and tokens, the median of the steps behind the warm-up. TFLOP/s are the" +
        "\nmodel's: causal, nothing for recomputation; in brackets of the data sheet's dense peak. Memory is what nvidia-smi says is in" +
        `\nuse beyond what was before the process: ${contextBytes === null ? "a CUDA context included" : `${(contextBytes / GiB).toFixed(2)} GiB of it are CUDA's context and libraries`}.`,
      table(
        [
          ...["model", "tokens", ...sides.map((side) => `ours: ${side}`)],
          ...[...sides.map((side) => `PyTorch: ${side}`), "speed-up", "our plan, GiB"],
        ],
        speed,
      ),
      table(["goal", "wanted", "measured"], goals(report)),
    );
  }
  if (longest.length > 0) {
    parts.push(
      "## The longest sequence",
      table(
        ["", "tokens trained", ""],
        longest.map(({ side, trained, detail }) => [side, trained?.toLocaleString("en") ?? "none", detail]),
      ),
    );
  }
  return `${parts.join("\n\n")}\n`;
}
