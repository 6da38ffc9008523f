/** @file `ithaca plan`: what fits on a machine, where every byte goes and how long a step takes, without the machine. */
import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { type Config, loadConfig } from "../config/load.ts";
import { parseBytes, parseCount } from "../config/values.ts";
import type { Forecast } from "../forecast.ts";
import { UserError } from "../ir/error.ts";
import { suggestion } from "../ir/nearest.ts";
import { bytesSent } from "../ir/plan.ts";
import { columnsOf } from "../plan/chart.ts";
import { type Machine, machineNames, machineOf } from "../plan/machines.ts";
import { type Found, longestSequence } from "../plan/search.ts";
import { timelineSvg } from "../plan/timeline-svg.ts";
import { inspect } from "./inspect.ts";
import { type ConfigOptions, configCommand, type Exit, print, printJson, report } from "./output.ts";
import { foundText, planText } from "./plan-text.ts";

interface PlanOptions extends ConfigOptions {
  readonly machine?: string;
  readonly gpus?: string;
  readonly deviceMemory?: string;
  readonly hostMemory?: string;
  readonly maxSequence: boolean;
  readonly explain: boolean;
  readonly timeline?: string;
}

export function planCommand(exit: Exit): Command {
  return configCommand("plan", "say what fits, where every byte goes, and how long a step takes")
    .option("--machine <name>", `plan for GPUs of this machine: ${machineNames.join(", ")}`)
    .option(
      "--gpus <n>",
      "ranks, which share the sequence; parallel.sequence is set to it over parallel.data",
    )
    .option("--device-memory <bytes>", "memory of one GPU, or of one rank on the CPU, such as 80GiB")
    .option("--host-memory <bytes>", "host memory of one node, shared by its ranks, such as 1.9TB")
    .option("--max-sequence", "search for the longest sequence that fits", false)
    .option("--explain", "say why each choice was made, and with which rates", false)
    .option("--timeline <svg>", "draw memory and lanes over the step to this file")
    .action(async (file: string, options: PlanOptions) => {
      const given = loadConfig(file, options.set, { planning: true });
      const machine = machineFor(options.machine ?? given.machine, given);
      let config = withOptions(given, options, machine);
      const { forecast, probe, limitsOf, remedyFor } = await import("../forecast.ts");
      let found: Found | null = null;
      if (options.maxSequence) {
        const multiple = machine ? 256 * config.parallel.sequence : 16 * config.parallel.sequence;
        found = await longestSequence((sequence) => probe(config, machine, sequence), {
          limits: limitsOf(config, machine),
          multiple,
          start: config.sequence_length,
        });
        config = { ...config, sequence_length: found.sequence };
      }
      const made = await forecast(config, machine);
      const remedy = made.excess === null ? null : await remedyFor(config, machine, made);
      const inspected = inspect(made.planned, options);
      if (options.timeline !== undefined) {
        writeFileSync(options.timeline, drawn(config, made));
        report(`${options.timeline} shows the step`);
      }
      if (options.json)
        printJson({
          ...(await jsonOf(config, made, found, options.explain)),
          ...(remedy !== null && { remedy }),
          ...inspected,
        });
      else print(`${found ? `${foundText(found)}\n` : ""}${planText(config, made, options.explain, remedy)}`);
      if (made.excess !== null) exit(1);
    });
}

/** The machine of a name. A configuration for GPUs that names none is planned for the first of the table. */
function machineFor(name: string | null, { target }: Config): Machine | null {
  if (name === null) return target === "cuda" ? (machineOf(machineNames[0]) as Machine) : null;
  const machine = machineOf(name);
  if (machine) return machine;
  throw new UserError(`there is no machine "${name}"`, {
    location: "--machine",
    remedy: `${suggestion(name, machineNames, "machines")} Or give --device-memory and --host-memory.`,
  });
}

function withOptions(config: Config, options: PlanOptions, machine: Machine | null): Config {
  const { data } = config.parallel;
  const gpus = options.gpus === undefined ? null : parseCount(options.gpus);
  if (gpus === undefined || (gpus !== null && (gpus < 1 || gpus % data !== 0))) {
    throw new UserError(`--gpus is ${options.gpus}; it must be a multiple of parallel.data, ${data}`, {
      location: "--gpus",
    });
  }
  const parallel = gpus === null ? config.parallel : { ...config.parallel, sequence: gpus / data };
  const ranks = parallel.sequence * data;
  const device = bytesOf("--device-memory", options.deviceMemory);
  const node = bytesOf("--host-memory", options.hostMemory);
  const host = node === null ? null : node / Math.min(ranks, machine?.gpusPerNode ?? ranks);
  return {
    ...config,
    parallel,
    memory: {
      ...config.memory,
      device_limit: device ?? config.memory.device_limit,
      host_limit: host ?? config.memory.host_limit,
    },
  };
}

function bytesOf(option: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const bytes = parseBytes(text);
  if (bytes !== undefined && bytes > 0) return bytes;
  throw new UserError(`${option} is ${text}; it must be a size such as 80GiB`, { location: option });
}

function drawn(config: Config, forecast: Forecast): string {
  const { parts, timeline, device, planned, limits, machine, ranks } = forecast;
  const own = parts.filter(({ memory }) => memory === "device");
  return timelineSvg({
    title: `Device memory over one step of ${planned.plan.name}`,
    subtitle: `${config.sequence_length.toLocaleString("en-US")} tokens, ${ranks} x ${machine.name}; time by a roofline`,
    columns: columnsOf(own, timeline.spans, timeline.seconds, 420, device.byKind.allowance),
    plan: planned.plan,
    timeline,
    seconds: timeline.seconds,
    limit: limits.device,
    peakStep: device.peakStep,
  });
}

/** `by_kind` and the two peaks add up: `unused_bytes` is what of an arena is alive at another step than the peak. */
async function jsonOf(
  config: Config,
  made: Forecast,
  found: Found | null,
  explains: boolean,
): Promise<object> {
  const { device, host, file, planned, stepSeconds, timeline, loads, machine, ranks, limits } = made;
  const { reasonsOf } = await import("../explain.ts");
  return {
    fits: made.excess === null,
    machine: machine.name,
    ranks,
    sequence_length: config.sequence_length,
    device_peak_bytes: device.peakBytes,
    host_peak_bytes: host.peakBytes,
    file_peak_bytes: file.peakBytes,
    device_limit_bytes: limits.device,
    host_limit_bytes: limits.host,
    step_time_s: stepSeconds,
    model_tflops: planned.modelFlops / stepSeconds / 1e12,
    model_flops: planned.modelFlops,
    ...(found && { max_sequence_length: found.sequence, limited_by: found.limitedBy, probes: found.probes }),
    bytes_sent: Object.fromEntries(bytesSent(planned.plan)),
    by_kind: device.byKind,
    unused_bytes: device.gapBytes,
    host_by_kind: host.byKind,
    host_unused_bytes: host.gapBytes,
    by_layer: device.byLayer,
    host_by_layer: host.byLayer,
    peak_step: device.peakStep,
    alive_at_peak: device.alive,
    lanes_busy_s: timeline.busy,
    by_formula: made.assumptions,
    formula_seconds: loads,
    allowances: made.allowances,
    ...(explains && { reasons: reasonsOf(config, made) }),
  };
}
