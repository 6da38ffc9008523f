/** @file "Did you mean": the known word that an unknown one was probably meant to be. */

/** The candidate with the fewest edits, if they are at most a third of the word. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let fewest = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const count = edits(word.toLowerCase(), candidate.toLowerCase());
    if (count >= fewest) continue;
    best = candidate;
    fewest = count;
  }
  return best;
}

/** Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b` (Damerau 1964). */
function edits(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next.push(Math.min(replaced, row[j] + 1, next[j - 1] + 1, swapped ? before[j - 2] + 1 : Infinity));
    }
    before = row;
    row = next;
  }
  return row[b.length];
}

/** More words than this are not worth reading. */
const MOST_LISTED = 16;

/** `Did you mean "x"?`, or else the words there are. */
export function suggestion(word: string, candidates: readonly string[], what: string): string {
  const near = nearest(word, candidates);
  if (near !== undefined) return `Did you mean "${near}"?`;
  if (candidates.length === 0) return `There are no ${what}.`;
  const more = candidates.length > MOST_LISTED ? " ..." : ".";
  return `The ${what} are ${candidates.slice(0, MOST_LISTED).join(", ")}${more}`;
}
