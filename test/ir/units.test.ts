/** @file How numbers with units are written. */
import { expect, test } from "vitest";
import { printBytes, printCount, printSeconds } from "../../src/ir/units.ts";

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1048575, "1.0 MiB"],
  [1536, "1.5 KiB"],
  [80 * 2 ** 30, "80.0 GiB"],
  [3 * 2 ** 50, "3072.0 TiB"],
])("%d bytes are %s", (bytes, text) => expect(printBytes(bytes)).toBe(text));

test.each([
  [0, "", "0"],
  [999, "", "999"],
  [1000, "", "1.00 k"],
  [12345, "FLOP", "12.3 kFLOP"],
  [999_499, "", "999 k"],
  [999_501, "", "1.00 M"],
  [7e18, "FLOP", "7.00 EFLOP"],
  [12, "FLOP", "12 FLOP"],
])("a count of %d %s is %s", (count, unit, text) => expect(printCount(count, unit)).toBe(text));

test.each([
  [4.2e-3, "4.2 ms"],
  [1.5e-5, "15 us"],
  [2.345, "2.35 s"],
  [90, "90.0 s"],
  [5400, "90.0 min"],
  [36000, "10.0 h"],
])("%d seconds are %s", (seconds, text) => expect(printSeconds(seconds)).toBe(text));
