/** @file Numbers with units as everything that people read writes them: tables, plans, messages, the viewer's page. */

/** `value` in the largest of `units`, each `base` of the one before, in which it is 1 or more; `text` writes it. */
function scaled(
  value: number,
  base: number,
  units: readonly string[],
  text: (value: number) => string,
): string {
  let [left, unit] = [value, 0];
  // What would be written as 1000 of a unit is 1 of the next.
  while (Number(text(left)) >= base && unit < units.length - 1) [left, unit] = [left / base, unit + 1];
  return `${unit === 0 ? left : text(left)} ${units[unit]}`.trimEnd();
}

/** `1536` as `1.5 KiB`. */
export function printBytes(bytes: number): string {
  return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"], (value) => value.toFixed(1));
}

/** Three digits and a prefix of thousands: `12345` as `12.3 k`, or of a unit as `12.3 kFLOP`. */
export function printCount(count: number, unit = ""): string {
  const units = ["", "k", "M", "G", "T", "P", "E"].map((prefix) => prefix + unit);
  return scaled(count, 1000, units, (value) => value.toPrecision(3));
}

/** 4.2e-3 as "4.2 ms", 90 as "90.0 s", 5400 as "90.0 min". */
export function printSeconds(seconds: number): string {
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(0)} us`;
  if (seconds < 1) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 600) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  return seconds < 36000 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
