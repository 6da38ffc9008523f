/** @file What `ithaca plan` prints for people. */
import type { Config } from "../config/load.ts";
import { grouped } from "../config/values.ts";
import { reasonsOf } from "../explain.ts";
import type { Forecast } from "../forecast.ts";
import { bytesSent, totalBytesSent } from "../ir/plan.ts";
import { printBytes, printSeconds } from "../ir/units.ts";
import { reportKinds } from "../plan/anatomy.ts";
import { columnsOf, sparkline } from "../plan/chart.ts";
import type { MemoryReport } from "../plan/report.ts";
import type { Found } from "../plan/search.ts";

/** Columns of the terminal's timeline. */
const WIDTH = 64;
const MOST_ALIVE = 10;

const size = (bytes: number): string => (bytes === 0 ? "-" : printBytes(bytes)).padStart(11);

export function planText(
  config: Config,
  forecast: Forecast,
  explains: boolean,
  remedy: string | null,
): string {
  const { device, host, file, assumptions, allowances } = forecast;
  return [
    headline(config, forecast),
    "",
    limitLine("device", device, forecast.limits.device),
    limitLine("host", host, forecast.limits.host),
    ...(file.peakBytes > 0 ? [limitLine("file", file, null)] : []),
    ...(forecast.excess === null ? [] : ["", `  It does not fit: ${forecast.excess}.`, `  ${remedy ?? ""}`]),
    "",
    ...kindTable(device, host),
    "",
    ...layerTable(device, host),
    "",
    ...aliveTable(forecast),
    "",
    ...timelineLines(forecast),
    ...section("Sent by each rank in a step", sentRows(forecast)),
    ...section(
      "By formula, since no pass does it yet",
      assumptions.map(({ setting, says }) => [setting, says]),
    ),
    ...section(
      "Allowances, in no arena",
      allowances.map(({ what, bytes, source }) => [printBytes(bytes), `${what} (${source})`]),
    ),
    ...(explains
      ? section(
          "Why",
          reasonsOf(config, forecast).map(({ choice, value, why }) => [`${choice}: ${value}`, why]),
        )
      : []),
  ].join("\n");
}

function sentRows({ planned }: Forecast): [string, string][] {
  const kinds = [...bytesSent(planned.plan)].map(([kind, bytes]): [string, string] => [
    kind,
    printBytes(bytes),
  ]);
  return kinds.length > 1 ? [...kinds, ["in all", printBytes(totalBytesSent(planned.plan))]] : kinds;
}

function headline(config: Config, { machine, ranks, planned }: Forecast): string {
  const model = "directory" in config.model ? config.model.directory : config.model.source;
  const where =
    machine.name === "cpu" ? `${ranks} rank${ranks > 1 ? "s" : ""} on the CPU` : `${ranks} x ${machine.name}`;
  const tokens = config.sequence_length * config.micro_batch_size * config.parallel.data;
  return `${model} on ${where}: ${grouped(tokens * config.gradient_accumulation_steps)} tokens in a step, ${config.precision}, ${grouped(planned.plan.steps.length)} steps`;
}

function limitLine(memory: string, { peakBytes }: MemoryReport, limit: number | null): string {
  const of =
    limit === null ? "no limit" : `of ${printBytes(limit)}, ${((100 * peakBytes) / limit).toFixed(1)}%`;
  return `  ${memory.padEnd(8)}${size(peakBytes)}  ${of}`;
}

function kindTable(device: MemoryReport, host: MemoryReport): string[] {
  const rows = reportKinds
    .filter((kind) => device.byKind[kind] > 0 || host.byKind[kind] > 0)
    .map((kind) => `  ${kind.padEnd(18)}${size(device.byKind[kind])}${size(host.byKind[kind])}`);
  const gaps = `  ${"between buffers".padEnd(18)}${size(device.gapBytes)}${size(host.gapBytes)}`;
  return [`  ${"at the peak".padEnd(18)}${"device".padStart(11)}${"host".padStart(11)}`, ...rows, gaps];
}

/** Neighbouring layers that need the same are one row. */
function layerTable(device: MemoryReport, host: MemoryReport): string[] {
  const names = [...new Set([...device.byLayer, ...host.byLayer].map(({ layer }) => layer))];
  const bytesOf = ({ byLayer }: MemoryReport, layer: string): number =>
    byLayer.find((own) => own.layer === layer)?.bytes ?? 0;
  const rows: { first: string; last: string; device: number; host: number }[] = [];
  for (const layer of names) {
    const own = { device: bytesOf(device, layer), host: bytesOf(host, layer) };
    const before = rows.at(-1);
    if (before && before.device === own.device && before.host === own.host) before.last = layer;
    else rows.push({ first: layer, last: layer, ...own });
  }
  return [
    "  by layer",
    ...rows.map(({ first, last, ...bytes }) => {
      const name = first === last ? first || "shared" : `${first} to ${last.split(".").at(-1)}`;
      return `  ${name.padEnd(18)}${size(bytes.device)}${size(bytes.host)}${first === last ? "" : "  each"}`;
    }),
  ];
}

function aliveTable({ device, planned }: Forecast): string[] {
  const { node } = planned.plan.steps[device.peakStep] ?? { node: null };
  const shown = device.alive.slice(0, MOST_ALIVE);
  const rest = device.alive.slice(MOST_ALIVE).reduce((total, { bytes }) => total + bytes, 0);
  return [
    `  alive at the peak, step ${device.peakStep}${node ? `, ${node.op} ${node.loc}`.trimEnd() : ""}`,
    ...shown.map(({ name, kind, layer, bytes, loc }) =>
      `  ${size(bytes)}  ${kind.padEnd(14)}${layer.padEnd(20)} %${name.padEnd(34)} ${loc}`.trimEnd(),
    ),
    ...(rest > 0 ? [`  ${size(rest)}  and ${device.alive.length - MOST_ALIVE} more`] : []),
  ];
}

function timelineLines({
  parts,
  planned,
  timeline,
  stepSeconds,
  device,
  ranks,
  machine,
}: Forecast): string[] {
  const own = parts.filter(({ memory }) => memory === "device");
  const columns = columnsOf(own, timeline.spans, timeline.seconds, WIDTH, device.byKind.allowance);
  const rate = planned.modelFlops / stepSeconds / 1e12;
  const each = machine.name === "cpu" || ranks === 1 ? "" : `, ${(rate / ranks).toFixed(1)} a GPU`;
  return [
    `  device  |${sparkline(columns, device.peakBytes)}| ${printBytes(device.peakBytes)}`,
    `          0${printSeconds(timeline.seconds).padStart(WIDTH + 1)}`,
    `  a step takes about ${printSeconds(stepSeconds)}: ${rate.toFixed(1)} TFLOP/s of the model${each} (a roofline; --explain has its rates)`,
  ];
}

function section(title: string, rows: readonly (readonly [string, string])[]): string[] {
  if (rows.length === 0) return [];
  return ["", `  ${title}`, ...rows.map(([name, text]) => `    ${name}: ${text}`)];
}

export function foundText({ sequence, limitedBy, probes }: Found): string {
  return `The longest sequence is ${grouped(sequence)} tokens. A longer one needs more ${limitedBy} memory (${probes} plans).\n`;
}
