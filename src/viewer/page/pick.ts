/** @file What a person has picked, and how numbers are written. */

/** A value of the graph, by its name: nodes, steps and buffers are found by it. */
export type Pick = string;

const units = (value: number, base: number, names: readonly string[]): string => {
  let own = value;
  let unit = 0;
  for (; own >= base && unit < names.length - 1; unit++) own /= base;
  return `${unit === 0 ? Math.round(own) : own.toFixed(own < 10 ? 2 : 1)} ${names[unit]}`;
};

export const bytesText = (bytes: number): string => units(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
export const flopsText = (flops: number): string =>
  units(flops, 1000, ["FLOP", "KFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"]);

export function secondsText(seconds: number): string {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(1)} us`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(2)} ms` : `${seconds.toFixed(2)} s`;
}
