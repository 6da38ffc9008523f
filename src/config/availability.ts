/** @file What config.yaml may say but this version does not do yet. Building one of these deletes its line. */
import type { ConfigValues } from "./schema.ts";

export interface Unavailable {
  /** The key, as a path. */
  readonly key: string;
  /** Completes "not available yet: ...". */
  readonly what: string;
  /** The value to use until then. */
  readonly instead: string;
  readonly isWanted: (config: ConfigValues) => boolean;
}

export const unavailable: readonly Unavailable[] = [
  wants("parallel.zero_stage", "ZeRO", "0", (c) => c.parallel.zero_stage !== 0),
  wants("memory.parameter_offload", "offload", "off", (c) => isOn(c.memory.parameter_offload)),
];

function wants(
  key: string,
  what: string,
  instead: string,
  isWanted: (config: ConfigValues) => boolean,
): Unavailable {
  return { key, what, instead, isWanted };
}

/** One tile is no tiling. */
function isOn(choice: string | number): boolean {
  return choice !== "auto" && choice !== "off" && choice !== 1;
}
