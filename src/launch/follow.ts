/** @file Follows metrics.jsonl while a run writes it. */
import { closeSync, fstatSync, openSync, readSync, type Stats, statSync } from "node:fs";

/** A line of metrics.jsonl. */
export interface StepMetrics {
  readonly step: number;
  readonly loss: number;
  /** Before clipping; null if the program doesn't compute it. */
  readonly grad_norm: number | null;
  readonly learning_rate: number;
  readonly tokens: number;
  readonly step_time_s: number;
  readonly tokens_per_second: number;
  readonly model_tflops: number;
  readonly device_peak_bytes: number;
  readonly host_peak_bytes: number;
  readonly file_peak_bytes: number;
  readonly process_peak_bytes: number;
  /** By one rank to others in this step, in collectives; every rank sends as many. The plan predicts it. */
  readonly bytes_sent: number;
}

const pollMs = 100;

/**
 * Calls `onStep` for every step after `afterStep` that is written from now on; lines of an earlier run, which may
 * still be in the file, are passed over. `stop` reads what is left.
 */
export function followMetrics(
  path: string,
  afterStep: number,
  onStep: (metrics: StepMetrics) => void,
): { stop: () => void } {
  const before = status(path);
  let isOurs = before === undefined;
  let inode: number | undefined;
  let position = 0;
  let rest = "";

  const poll = () => {
    const now = status(path);
    if (!now) return;
    isOurs ||= now.ino !== before?.ino || now.size !== before.size || now.mtimeMs !== before.mtimeMs;
    if (!isOurs) return;
    const file = openSync(path, "r");
    const { ino, size } = fstatSync(file);
    if (ino !== inode || size < position) {
      inode = ino;
      position = 0;
      rest = "";
    }
    const bytes = Buffer.alloc(size - position);
    position += readSync(file, bytes, 0, bytes.length, position);
    closeSync(file);
    const lines = (rest + bytes.toString("utf8")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const metrics = JSON.parse(line) as StepMetrics;
      if (metrics.step > afterStep) onStep(metrics);
    }
  };

  const timer = setInterval(poll, pollMs);
  return {
    stop() {
      clearInterval(timer);
      poll();
    },
  };
}

function status(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}
