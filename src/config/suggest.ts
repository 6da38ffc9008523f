/** @file "Did you mean": the known word that an unknown one was probably meant to be. */

/** What other trainers call our keys. */
const synonyms: Readonly<Record<string, string>> = {
  batch_size: "micro_batch_size",
  bf16: "precision",
  dtype: "precision",
  epochs: "max_steps",
  gradient_checkpointing: "memory.activation_checkpointing",
  gradient_clipping: "max_grad_norm",
  lr: "learning_rate",
  lr_scheduler: "lr_scheduler_type",
  max_length: "sequence_length",
  max_seq_length: "sequence_length",
  mixed_precision: "precision",
  model_name_or_path: "model",
  num_train_epochs: "max_steps",
  per_device_train_batch_size: "micro_batch_size",
  resume_from_checkpoint: "resume",
  save_steps: "snapshot_every",
  seq_len: "sequence_length",
  seq_length: "sequence_length",
  sequence_parallel_size: "parallel.sequence",
  sp: "parallel.sequence",
  torch_dtype: "precision",
  train_micro_batch_size_per_gpu: "micro_batch_size",
};

/** The known path that `path` ("section.key" or "key") was meant to be, if one is near. */
export function suggestPath(path: string, known: readonly string[]): string | undefined {
  const section = path.slice(0, path.lastIndexOf(".") + 1);
  const name = path.slice(section.length);
  const beside = known
    .filter((candidate) => candidate.startsWith(section))
    .map((candidate) => candidate.slice(section.length))
    .filter((candidate) => !candidate.includes("."));
  const near = nearest(name, beside);
  return (
    known.find((candidate) => candidate.split(".").at(-1) === name) ??
    synonyms[name.toLowerCase()] ??
    (near === undefined ? undefined : section + near)
  );
}

/** The candidate with the fewest edits, if they are at most a third of the word. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let fewest = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const edits = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (edits >= fewest) continue;
    best = candidate;
    fewest = edits;
  }
  return best;
}

/** Levenshtein, 1965: insertions, deletions and replacements that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
