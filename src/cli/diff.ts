/** @file The difference of two texts in lines, as `diff -u` shows it. */

/** One line of both texts, of the old one or of the new one. */
interface Edit {
  readonly sign: " " | "-" | "+";
  readonly line: string;
}

const contextLines = 3;

/** A unified diff with `---` and `+++` naming the two; only those two lines if the texts are equal. */
export function lineDiff(before: string, after: string, beforeName: string, afterName: string): string {
  const edits = patience(before.replace(/\n$/, "").split("\n"), after.replace(/\n$/, "").split("\n"));
  return [`--- ${beforeName}`, `+++ ${afterName}`, ...hunks(edits), ""].join("\n");
}

/**
 * Bram Cohen's patience diff: lines that occur once in both texts are matched in their longest common order, and the
 * stretches between them in the same way. In IR nearly every line is unique, so it takes n log n steps.
 */
function patience(before: readonly string[], after: readonly string[]): Edit[] {
  const edits: Edit[] = [];
  const push = (sign: Edit["sign"], lines: readonly string[]) => {
    for (const line of lines) edits.push({ sign, line });
  };
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1;
  let tail = 0;
  const most = Math.min(before.length, after.length) - head;
  while (tail < most && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1;

  push(" ", before.slice(0, head));
  const old = before.slice(head, before.length - tail);
  const new_ = after.slice(head, after.length - tail);
  const anchors = uniqueInOrder(old, new_);
  if (anchors.length === 0) {
    push("-", old);
    push("+", new_);
  } else {
    let [i, j] = [0, 0];
    for (const [oldAt, newAt] of anchors) {
      for (const edit of patience(old.slice(i, oldAt), new_.slice(j, newAt))) edits.push(edit);
      push(" ", [old[oldAt] as string]);
      [i, j] = [oldAt + 1, newAt + 1];
    }
    for (const edit of patience(old.slice(i), new_.slice(j))) edits.push(edit);
  }
  push(" ", before.slice(before.length - tail));
  return edits;
}

/** Pairs of positions of lines that are unique in both, the most that are in the same order in both. */
function uniqueInOrder(old: readonly string[], new_: readonly string[]): [number, number][] {
  const newAt = uniquePositions(new_);
  const pairs = [...uniquePositions(old)]
    .flatMap(([line, at]): [number, number][] => {
      const other = newAt.get(line);
      return other === undefined ? [] : [[at, other]];
    })
    .sort(([a], [b]) => a - b);
  return longestRising(pairs);
}

function uniquePositions(lines: readonly string[]): Map<string, number> {
  const seen = new Set<string>();
  const unique = new Map<string, number>();
  lines.forEach((line, at) => {
    if (seen.has(line)) unique.delete(line);
    else unique.set(line, at);
    seen.add(line);
  });
  return unique;
}

/** The longest subsequence whose second numbers rise, by patience sorting. */
function longestRising(pairs: readonly [number, number][]): [number, number][] {
  const tops: number[] = [];
  const previous: number[] = [];
  pairs.forEach(([, value], i) => {
    let [low, high] = [0, tops.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((pairs[tops[middle] as number] as [number, number])[1] < value) low = middle + 1;
      else high = middle;
    }
    previous[i] = low > 0 ? (tops[low - 1] as number) : -1;
    tops[low] = i;
  });
  const rising: [number, number][] = [];
  for (let i = tops.at(-1) ?? -1; i >= 0; i = previous[i] as number)
    rising.unshift(pairs[i] as [number, number]);
  return rising;
}

/** Changes with lines of context around them, each headed by the line numbers it stands at. */
function hunks(edits: readonly Edit[]): string[] {
  const near = edits.map(() => false);
  edits.forEach(({ sign }, i) => {
    if (sign !== " ") near.fill(true, Math.max(0, i - contextLines), i + contextLines + 1);
  });
  const lines: string[] = [];
  let [oldLine, newLine] = [1, 1];
  edits.forEach(({ sign, line }, i) => {
    if (near[i] && !near[i - 1]) {
      let end = i;
      while (near[end]) end += 1;
      const hunk = edits.slice(i, end);
      const oldCount = hunk.filter((edit) => edit.sign !== "+").length;
      const newCount = hunk.filter((edit) => edit.sign !== "-").length;
      lines.push(`@@ -${oldLine},${oldCount} +${newLine},${newCount} @@`);
    }
    if (near[i]) lines.push(sign + line);
    if (sign !== "+") oldLine += 1;
    if (sign !== "-") newLine += 1;
  });
  return lines;
}
