/** @file The line diff: its form, and that it says how to get from one text to the other. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { lineDiff } from "../../src/cli/diff.ts";

test("equal texts", () => {
  expect(lineDiff("a\nb\n", "a\nb\n", "x", "y")).toBe("--- x\n+++ y\n");
});

test("a change in the middle has three lines of context", () => {
  const numbers = Array.from({ length: 20 }, (_, i) => `${i + 1}`);
  const changed = numbers.map((line) => (line === "10" ? "ten" : line));
  expect(lineDiff(numbers.join("\n"), changed.join("\n"), "x", "y")).toBe(
    "--- x\n+++ y\n@@ -7,7 +7,7 @@\n 7\n 8\n 9\n-10\n+ten\n 11\n 12\n 13\n",
  );
});

/** What `patch` does. */
function apply(before: readonly string[], diff: string): string[] {
  const after: string[] = [];
  let at = 0;
  for (const line of diff.replace(/\n$/, "").split("\n").slice(2)) {
    const start = /^@@ -(\d+),(\d+) /.exec(line);
    if (start) {
      const first = Number(start[1]) - (start[2] === "0" ? 0 : 1);
      after.push(...before.slice(at, first));
      at = first;
      continue;
    }
    if (line.startsWith("+")) {
      after.push(line.slice(1));
      continue;
    }
    expect(line.slice(1)).toBe(before[at]);
    if (line.startsWith(" ")) after.push(line.slice(1));
    at += 1;
  }
  return [...after, ...before.slice(at)];
}

test("the difference makes the second text of the first", () => {
  const text = fc.array(fc.constantFrom("a", "b", "c", "d", "e f", "g", "h", "i"), {
    minLength: 1,
    maxLength: 30,
  });
  fc.assert(
    fc.property(text, text, (before, after) => {
      expect(apply(before, lineDiff(before.join("\n"), after.join("\n"), "x", "y"))).toEqual(after);
    }),
  );
});

test("ten thousand lines take no time", () => {
  const before = Array.from({ length: 10_000 }, (_, i) => `%${i} = add %${i - 1}, %x`);
  const after = before.flatMap((line, i) => (i % 7 === 0 ? [`%new${i}`, line] : [line]));
  const begin = performance.now();
  lineDiff(before.join("\n"), after.join("\n"), "x", "y");
  expect(performance.now() - begin).toBeLessThan(2000);
});
