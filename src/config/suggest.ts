/** @file "Did you mean" for keys of config.yaml: near ones, and what other trainers call ours. */
import { nearest } from "../ir/nearest.ts";

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
