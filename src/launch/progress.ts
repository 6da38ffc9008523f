/** @file Shows how a run is going: a bar on a terminal, plain lines elsewhere. */
import { SingleBar } from "cli-progress";
import type { StepMetrics } from "./follow.ts";

export interface ProgressDisplay {
  step(metrics: StepMetrics): void;
  /** Prints a message without disturbing the bar. */
  message(text: string): void;
  stop(): void;
}

/** Steps whose time the estimate of what is left is taken from. */
const recentSteps = 20;

/** Seconds between plain lines; a log of every step of a long run would be all that is in it. */
const quietSeconds = 1;

export interface ProgressOptions {
  readonly maxSteps: number;
  readonly firstStep: number;
  /** Where plain lines go; the bar and messages go to standard error. */
  readonly lines: NodeJS.WritableStream;
  readonly isTerminal: boolean;
}

export function showProgress(options: ProgressOptions): ProgressDisplay {
  return options.isTerminal ? barDisplay(options) : lineDisplay(options);
}

function barDisplay({ maxSteps, firstStep }: ProgressOptions): ProgressDisplay {
  const bar = new SingleBar({
    format: "{bar} {value}/{total}  {state}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 24,
    hideCursor: true,
    clearOnComplete: false,
    gracefulExit: false,
    stream: process.stderr,
    etaBuffer: recentSteps,
  });
  const estimate = timeLeft(maxSteps);
  bar.start(maxSteps, firstStep, { state: "starting" });
  return {
    step(metrics) {
      const left = estimate(metrics);
      bar.update(metrics.step, { state: `${figures(metrics)}  ${left} left` });
    },
    message(text) {
      // The bar has turned line wrapping off, and ends at the place that it saved.
      process.stderr.write(`\r\x1b[K\x1b[?7h${text.replace(/\n?$/, "\n")}\x1b7\x1b[?7l`);
      bar.render();
    },
    stop: () => bar.stop(),
  };
}

function lineDisplay({ maxSteps, lines, firstStep }: ProgressOptions): ProgressDisplay {
  const estimate = timeLeft(maxSteps);
  let last = 0;
  return {
    step(metrics) {
      const left = estimate(metrics);
      const now = performance.now() / 1000;
      const isEdge = metrics.step === firstStep + 1 || metrics.step === maxSteps;
      if (!isEdge && now - last < quietSeconds) return;
      last = now;
      lines.write(`step ${metrics.step}/${maxSteps}  ${figures(metrics)}  ${left} left\n`);
    },
    message(text) {
      process.stderr.write(text.replace(/\n?$/, "\n"));
    },
    stop() {},
  };
}

function figures({ loss, tokens_per_second }: StepMetrics): string {
  return `loss ${loss.toFixed(4)}  ${Math.round(tokens_per_second).toLocaleString("en-US")} tokens/s`;
}

/** Time to the last step at the pace of the recent ones. */
function timeLeft(maxSteps: number): (metrics: StepMetrics) => string {
  const times: number[] = [];
  return ({ step, step_time_s }) => {
    times.push(step_time_s);
    if (times.length > recentSteps) times.shift();
    const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
    return duration((maxSteps - step) * mean);
  };
}

/** 3725 as "1h 02m", 65 as "1m 05s", 5 as "5s". */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (number: number) => String(number).padStart(2, "0");
  if (hours > 0) return `${hours}h ${two(minutes)}m`;
  return minutes > 0 ? `${minutes}m ${two(rest)}s` : `${rest}s`;
}
