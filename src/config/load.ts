/** @file Reads config.yaml and --set options into a Config; every error says where, what, and what is allowed. */
import { readFileSync, type Stats, statSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, extname, join, resolve } from "node:path";
import { formatError, UserError } from "../ir/error.ts";
import { nearest } from "../ir/nearest.ts";
import { unavailable } from "./availability.ts";
import { ConfigDocument, type Path } from "./document.ts";
import { placeRanks } from "./hosts.ts";
import { type ConfigValues, knownPaths, schema } from "./schema.ts";
import { suggestPath } from "./suggest.ts";
import { type Hint, isRecord, type JsonObject } from "./values.ts";

/** A model to train: a Hugging Face directory, or a definition and the configuration it is built with. */
export type ModelSource =
  | { readonly directory: string }
  | { readonly source: string; readonly config: JsonObject };

/** config.yaml, checked and complete. Names are those of the file, all paths absolute. */
export interface Config extends Omit<ConfigValues, "model" | "threads"> {
  readonly model: ModelSource;
  /** Of one rank. */
  readonly threads: number;
}

/** What a configuration is read for. */
export interface LoadOptions {
  /** Only to plan: what this version does not do yet is let through, and data needn't be there. */
  readonly planning?: boolean;
}

/**
 * Reads a configuration file. Paths in it are relative to the file, paths in `--set` to the working directory.
 * Throws one UserError with everything that is wrong.
 */
export function loadConfig(
  file: string,
  overrides: readonly string[] = [],
  options: LoadOptions = {},
): Config {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reasons: Readonly<Record<string, string>> = {
      EACCES: "permission denied",
      EISDIR: "this is a folder",
      ENOENT: "there is no such file",
      ENOTDIR: "there is no such file",
    };
    throw new UserError(reasons[code ?? ""] ?? `can't be read: ${message}`, {
      location: file,
      remedy: "Give the path of a configuration file, for example: ithaca train config.yaml",
    });
  }
  return parseConfig(text, file, overrides, options);
}

/** `loadConfig` for text that has been read; `file` names it in errors and is what its paths are relative to. */
export function parseConfig(
  text: string,
  file: string,
  overrides: readonly string[] = [],
  { planning = false }: LoadOptions = {},
): Config {
  const document = new ConfigDocument(text, file);
  for (const option of overrides) document.set(option);
  const parsed = schema.safeParse(document.values());
  if (!parsed.success) {
    const misspelt = new Set(parsed.error.issues.flatMap(misspeltKeys));
    throw together(parsed.error.issues.flatMap((issue) => issueErrors(issue, document, misspelt)));
  }
  const errors = unavailable
    .filter(({ isWanted }) => !planning && isWanted(parsed.data))
    .map(({ key, what, instead }) => {
      const path = key.split(".");
      const remedy = `This version has ${key}: ${instead} only.`;
      return located(document, path, `not available yet: ${what}`, remedy);
    });
  if (errors.length > 0) throw together(errors);
  return resolved(parsed.data, document, planning);
}

interface LocatedError {
  readonly error: UserError;
  readonly order: number;
}

function located(
  document: ConfigDocument,
  path: Path,
  message: string,
  remedy?: string,
  part: "key" | "value" = "value",
): LocatedError {
  const context = { ...document.where(path, part), ...(remedy !== undefined && { remedy }) };
  return { error: new UserError(message, context), order: document.order(path) };
}

type Issue = NonNullable<ReturnType<typeof schema.safeParse>["error"]>["issues"][number];

/** The keys that unknown keys were probably meant to be; they are then not reported as missing. */
function misspeltKeys(issue: Issue): string[] {
  if (issue.code !== "unrecognized_keys") return [];
  return issue.keys.flatMap((key) => suggestPath([...issue.path, key].join("."), knownPaths) ?? []);
}

function issueErrors(issue: Issue, document: ConfigDocument, misspelt: ReadonlySet<string>): LocatedError[] {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const full = [...path, key];
      const known = suggestPath(full.join("."), knownPaths);
      const remedy = known === undefined ? knownKeys(path) : `Did you mean ${known}?`;
      return located(document, full, `there is no key "${full.join(".")}"`, remedy, "key");
    });
  }
  const name = path.join(".");
  if (issue.code === "custom") {
    const { remedy, choices = [] } = (issue.params ?? {}) as Hint;
    if (!document.has(path) && misspelt.has(name)) return [];
    if (!document.has(path))
      return [located(document, path, `${name} is missing; it must be ${issue.message}`)];
    const value = valueAt(document.values(), path);
    const near = typeof value === "string" ? nearest(value, choices) : undefined;
    const message = `${name} is ${shown(value)}; it must be ${issue.message}`;
    return [located(document, path, message, near === undefined ? remedy : `Did you mean ${near}?`)];
  }
  const value = valueAt(document.values(), path);
  return [
    located(document, path, `${name} is ${shown(value)}; it must be a section of keys`, knownKeys(path)),
  ];
}

function knownKeys(section: Path): string {
  const prefix = section.length > 0 ? `${section.join(".")}.` : "";
  const names = knownPaths.filter((path) => path.startsWith(prefix)).map((path) => path.slice(prefix.length));
  const own = names.filter((name) => !name.includes("."));
  return `The keys of ${section.length > 0 ? section.join(".") : "the file"} are ${own.join(", ")}.`;
}

function valueAt(values: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, key) => (isRecord(value) ? value[key] : undefined), values);
}

function shown(value: unknown): string {
  if (value === null) return "empty";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** One error that shows all of them, in the order of the file. */
function together(errors: readonly LocatedError[]): UserError {
  const [first, ...others] = [...errors].sort((a, b) => a.order - b.order).map(({ error }) => error);
  if (!first) throw new Error("the schema refused the configuration without saying why");
  if (others.length === 0) return first;
  const head = [first.frame, first.remedy?.replace(/^/gm, "  ")].filter((part) => part !== undefined);
  return new UserError(first.message, {
    ...(first.location !== undefined && { location: first.location }),
    frame: [...head, ...others.map((error) => `\n${formatError(error)}`)].join("\n"),
  });
}

/** Makes paths absolute and checks that what is to be read is there. */
function resolved(values: ConfigValues, document: ConfigDocument, planning: boolean): Config {
  const errors: LocatedError[] = [];
  const fail = (path: Path, message: string, remedy?: string) =>
    errors.push(located(document, path, message, remedy));
  const absolute = (path: string, key: Path) =>
    resolve(document.isOverridden(key) ? process.cwd() : dirname(resolve(document.file)), path);

  const model = resolveModel(values.model, absolute, fail);
  const data = absolute(values.data, ["data"]);
  const form = extname(data).toLowerCase();
  if (![".bin", ".txt", ".jsonl", ".parquet"].includes(form)) {
    fail(["data"], `data is "${values.data}"; it must be a .bin, .txt, .jsonl or .parquet file`);
  } else if (!planning && !isFile(data)) {
    fail(["data"], `there is no file ${data}`);
  }

  let tokenizer: string | null = null;
  if (values.tokenizer !== null) {
    const path = absolute(values.tokenizer, ["tokenizer"]);
    tokenizer = isFile(path) ? path : join(path, "tokenizer.json");
    if (!isFile(tokenizer)) fail(["tokenizer"], `there is no tokenizer.json at ${path}`);
  } else if ("directory" in model && isFile(join(model.directory, "tokenizer.json"))) {
    tokenizer = join(model.directory, "tokenizer.json");
  } else if (form !== ".bin" && !planning && errors.length === 0) {
    fail(
      ["data"],
      `${values.data} is text, and there is no tokenizer to read it with`,
      "Set tokenizer: to a tokenizer.json or a folder with one, or put tokenizer.json into the model directory.",
    );
  }

  const resume = values.resume === null ? null : absolute(values.resume, ["resume"]);
  if (resume !== null && !isFolder(resume)) fail(["resume"], `there is no snapshot folder ${resume}`);

  const { data: replicas, comm, hosts, launcher_args } = values.parallel;
  const spillPath = ["memory", "host_spill"];
  const hostSpill = values.memory.host_spill === null ? null : absolute(values.memory.host_spill, spillPath);
  // Other hosts have disks of their own: there the ranks look.
  if (hostSpill !== null && hosts === null && !planning && !isFolder(hostSpill)) {
    fail(spillPath, `there is no folder ${hostSpill}`, "Make it, or name a folder on a fast local disk.");
  }
  const sequence = values.gpus === null ? values.parallel.sequence : values.gpus / replicas;
  const ranks = sequence * replicas;
  if (!Number.isInteger(sequence)) {
    fail(["gpus"], `gpus is ${values.gpus}; it must be a multiple of parallel.data, ${replicas}`);
  } else if (document.has(["parallel", "sequence"]) && sequence !== values.parallel.sequence) {
    const asked = `parallel.sequence ${values.parallel.sequence} and parallel.data ${replicas}`;
    fail(
      ["gpus"],
      `gpus is ${values.gpus}, but ${asked} make ${values.parallel.sequence * replicas} ranks`,
      "Leave one of them out.",
    );
  }
  const placed = hosts === null ? [{ host: "", ranks }] : placeRanks(hosts, ranks);
  if ("message" in placed) fail(["parallel", "hosts"], placed.message, placed.remedy);
  const remote = hosts !== null ? "hosts" : launcher_args.length > 0 ? "launcher_args" : null;
  if (remote !== null && comm !== "mpi") {
    const [what, remedy] =
      comm === "local"
        ? ["needs ranks that are processes", "Set parallel.comm: mpi."]
        : ["is for mpirun", "Leave it out, and start a process for each rank with srun, torchrun or mpirun."];
    fail(["parallel", remote], `parallel.${remote} ${what}`, remedy);
  }
  if (!planning && comm === "nccl" && values.target === "cpu") {
    const remedy = "Set target: cuda, or parallel.comm: local or mpi.";
    fail(["parallel", "comm"], "parallel.comm: nccl connects GPUs, and target is cpu", remedy);
  }
  if (!planning && comm === "mpi" && values.target === "cuda") {
    const remedy = "Set parallel.comm: nccl; mpirun may start its ranks too.";
    fail(["parallel", "comm"], "parallel.comm: mpi connects ranks of target: cpu", remedy);
  }

  const ops = values.ops.map((name) => {
    const file = absolute(name, ["ops"]);
    if (!isFile(file)) fail(["ops"], `there is no file ${file}`);
    return file;
  });
  const passes = values.passes.map((own) => {
    const file = own.file === null ? null : absolute(own.file, ["passes"]);
    if (file !== null && !isFile(file)) fail(["passes"], `there is no file ${file}`);
    return { ...own, file };
  });

  if (errors.length > 0 || "message" in placed) throw together(errors);
  const ranksOfHost = Math.max(...placed.map((entry) => entry.ranks));
  return {
    ...values,
    parallel: { ...values.parallel, sequence },
    memory: { ...values.memory, host_spill: hostSpill },
    model,
    data,
    tokenizer,
    resume,
    ops,
    passes,
    output_dir: absolute(values.output_dir, ["output_dir"]),
    threads: values.threads ?? Math.max(1, Math.floor(availableParallelism() / ranksOfHost)),
  };
}

function resolveModel(
  model: ConfigValues["model"],
  absolute: (path: string, key: Path) => string,
  fail: (path: Path, message: string, remedy?: string) => void,
): ModelSource {
  if (typeof model !== "string") {
    const source = absolute(model.source, ["model", "source"]);
    if (!isFile(source)) fail(["model", "source"], `there is no file ${source}`);
    return { source, config: model.config };
  }
  const directory = absolute(model, ["model"]);
  if (isFile(directory)) {
    const isDefinition = directory.endsWith(".ts");
    fail(
      ["model"],
      `${model} is a file; a model is a Hugging Face directory`,
      isDefinition ? `A definition is written as model: { source: ${model}, config: { ... } }` : undefined,
    );
  } else if (!isFolder(directory)) {
    const isHubId = /^[\w.-]+\/[\w.-]+$/.test(model);
    fail(
      ["model"],
      `there is no folder ${directory}`,
      isHubId ? `If it is on the Hugging Face hub: hf download ${model} --local-dir ${model}` : undefined,
    );
  } else if (!isFile(join(directory, "config.json"))) {
    fail(
      ["model"],
      `${directory} has no config.json`,
      "A Hugging Face directory has one; weights are optional.",
    );
  }
  return { directory };
}

function isFile(path: string): boolean {
  return status(path)?.isFile() ?? false;
}

function isFolder(path: string): boolean {
  return status(path)?.isDirectory() ?? false;
}

/** Undefined for what isn't there, for whatever reason: a folder on the way that is a file, no permission ... */
function status(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
