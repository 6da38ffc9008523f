/** @file The files of a definition: read, parsed, never executed. Also where messages and nodes say things are. */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { codeFrameColumns } from "@babel/code-frame";
import { ModuleKind, ModuleResolutionKind, Project, ScriptTarget, ts } from "ts-morph";
import { UserError } from "../ir/error.ts";
import { LIBRARY } from "./lib.ts";

/** Where "ithaca/nn" and the shipped definitions are: beside the sources, also for the built package. */
const SOURCE_ROOT = fileURLToPath(new URL("../../src/", import.meta.url));
const NN_DIRECTORY = resolve(SOURCE_ROOT, "nn") + sep;
const NN_INDEX = resolve(SOURCE_ROOT, "nn/index.d.ts");

export const MODELS_DIRECTORY = resolve(SOURCE_ROOT, "models");

/** The files that a definition consists of, in the order in which they were first imported. */
export class Sources {
  readonly #project: Project;
  readonly #files = new Map<string, ts.SourceFile>();
  readonly #shown = new Map<ts.SourceFile, string>();
  readonly #declared: ReadonlyMap<string, string>;
  readonly entry: ts.SourceFile;

  /**
   * Reads `file` and all that it imports; `declared` has the text for files, by absolute path, of which only declarations
   * are to be seen. Throws a UserError where a file is missing or is not TypeScript.
   */
  constructor(file: string, declared: ReadonlyMap<string, string> = new Map()) {
    this.#declared = declared;
    this.#project = new Project({
      useInMemoryFileSystem: true,
      skipLoadingLibFiles: true,
      skipFileDependencyResolution: true,
      compilerOptions: {
        noLib: true,
        types: [],
        strict: true,
        noImplicitAny: false,
        target: ScriptTarget.ES2022,
        module: ModuleKind.ESNext,
        moduleResolution: ModuleResolutionKind.Bundler,
        allowImportingTsExtensions: true,
        noEmit: true,
        paths: { "ithaca/nn": [NN_INDEX] },
      },
    });
    if (!existsSync(file)) {
      throw new UserError(`there is no file ${file}`, {
        remedy: "`source` is the path of a model definition.",
      });
    }
    if (!file.endsWith(".ts")) {
      throw new UserError(`${file} is not a TypeScript file`, { remedy: "A model definition ends in .ts." });
    }
    this.entry = this.#read(resolve(file));
  }

  /** The file that `specifier` means in `from`; undefined where it may not be imported. */
  resolve(from: ts.SourceFile, specifier: string): ts.SourceFile | undefined {
    if (specifier === "ithaca/nn") return this.#read(NN_INDEX);
    if (!/^\.\.?\/.*\.[jt]s$/.test(specifier)) return undefined;
    // TypeScript lets "./blocks.js" stand for blocks.ts; nothing but TypeScript is ever read.
    const path = resolve(dirname(from.fileName), specifier.replace(/\.js$/, ".ts"));
    return this.#files.get(path) ?? (existsSync(path) ? this.#read(path) : undefined);
  }

  #read(path: string): ts.SourceFile {
    const known = this.#files.get(path);
    if (known) return known;
    const text = this.#declared.get(path) ?? textOf(path);
    const file = this.#project.createSourceFile(path, text).compilerNode;
    this.#files.set(path, file);
    const [mistake] = (file as unknown as { parseDiagnostics: readonly ts.Diagnostic[] }).parseDiagnostics;
    if (mistake) throw this.#diagnosed(mistake);
    return file;
  }

  /** Whether a file is not read as it was written: places in it are of no interest to whoever uses it. */
  isLibrary(file: ts.SourceFile): boolean {
    return file.fileName.startsWith(NN_DIRECTORY) || this.#declared.has(file.fileName);
  }

  /** The name of a file in messages and nodes: as short as distinguishes it from the others. */
  nameOf(file: ts.SourceFile): string {
    const known = this.#shown.get(file);
    if (known !== undefined) return known;
    const others = [...this.#files.keys()].filter((path) => path !== file.fileName);
    const parts = file.fileName.split("/");
    let name = basename(file.fileName);
    for (let length = 2; length <= parts.length; length++) {
      if (!others.some((path) => path.endsWith(`/${name}`))) break;
      name = parts.slice(-length).join("/");
    }
    this.#shown.set(file, name);
    return name;
  }

  /** `llama.ts:35`. */
  lineOf(node: ts.Node): string {
    const file = node.getSourceFile();
    return `${this.nameOf(file)}:${file.getLineAndCharacterOfPosition(node.getStart(file)).line + 1}`;
  }

  /** A mistake at `node`, with the lines around it. */
  errorAt(node: ts.Node, message: string, remedy?: string): UserError {
    const file = node.getSourceFile();
    return this.#errorBetween(file, node.getStart(file), node.getEnd(), message, remedy);
  }

  #errorBetween(file: ts.SourceFile, from: number, to: number, message: string, remedy?: string): UserError {
    const start = file.getLineAndCharacterOfPosition(from);
    const end = file.getLineAndCharacterOfPosition(to);
    // Several lines of carets hide the place; one says where it begins.
    const oneLine = start.line === end.line && end.character > start.character;
    const frame = codeFrameColumns(
      file.text,
      {
        start: { line: start.line + 1, column: start.character + 1 },
        ...(oneLine && { end: { line: end.line + 1, column: end.character + 1 } }),
      },
      { linesAbove: 1, linesBelow: 1 },
    );
    return new UserError(message, {
      location: `${this.nameOf(file)}:${start.line + 1}:${start.character + 1}`,
      frame,
      ...(remedy && { remedy }),
    });
  }

  #diagnosed(diagnostic: ts.Diagnostic): UserError {
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, "\n");
    const { file, start = 0, length = 0 } = diagnostic;
    if (!file) return new UserError(message);
    return this.#errorBetween(file, start, start + length, lowerFirst(message.replace(/\.$/, "")));
  }

  /** The first type error in the user's files, which may lie where this configuration doesn't lead. */
  typeError(): UserError | undefined {
    this.#project.createSourceFile("/lib.d.ts", LIBRARY);
    const program = this.#project.getProgram().compilerObject;
    for (const file of this.#files.values()) {
      if (file.fileName.startsWith(SOURCE_ROOT)) continue;
      const source = program.getSourceFile(file.fileName);
      const [mistake] = program.getSemanticDiagnostics(source);
      if (mistake) return this.#diagnosed(mistake);
    }
    return undefined;
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UserError(`${path} can't be read: ${(error as NodeJS.ErrnoException).code ?? "unknown error"}`);
  }
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text;
}
