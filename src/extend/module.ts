/**
 * @file Runs a TypeScript file of the user's without a build step: types are erased, `import ... from "ithaca"` gives this
 * very library (a second copy would have another set of ops), relative imports are loaded in the same way, and packages
 * are looked up from the file as Node does.
 */
import { readFileSync } from "node:fs";
import { createRequire, SourceMap } from "node:module";
import { dirname, extname, resolve } from "node:path";
import { compileFunction } from "node:vm";
import { ts } from "ts-morph";
import { UserError } from "../ir/error.ts";
import * as library from "./library.ts";
import { registerOps } from "./register.ts";
import { loaded, throwingLine } from "./thrown.ts";

type Exports = Readonly<Record<string, unknown>>;

/**
 * What the file exports; the ops among it are known from then on. It runs once, however often it is asked for; again when
 * its text has changed.
 */
export function loadModule(file: string, askedBy = ""): Exports {
  const path = resolve(file);
  const text = readText(path, file, askedBy);
  const known = loaded.get(path);
  if (known?.text === text) return known.exports;
  const { code, map } = erased(text, file);
  const exports: Record<string, unknown> = {};
  loaded.set(path, { file, text, exports, map });
  const run = compileFunction(code, ["exports", "require"], { filename: path });
  try {
    run(exports, (name: string) => imported(name, path, file));
    registerOps(exports, path, file);
  } catch (error) {
    const location = throwingLine(error) ?? file;
    loaded.delete(path);
    if (error instanceof UserError) throw error;
    throw new UserError(error instanceof Error ? error.message : String(error), {
      location,
      remedy: "The file is run to see what it exports; this was thrown on the way.",
    });
  }
  return exports;
}

function readText(path: string, file: string, askedBy: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    throw new UserError(`there is no file ${path}`, { location: askedBy || file });
  }
}

function erased(text: string, file: string): { code: string; map: SourceMap } {
  const { outputText, diagnostics, sourceMapText } = ts.transpileModule(text, {
    fileName: file,
    reportDiagnostics: true,
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.CommonJS,
      sourceMap: true,
      verbatimModuleSyntax: false,
      esModuleInterop: true,
    },
  });
  const [first] = diagnostics ?? [];
  if (first) {
    const start =
      first.file && first.start !== undefined && first.file.getLineAndCharacterOfPosition(first.start);
    throw new UserError(ts.flattenDiagnosticMessageText(first.messageText, "\n"), {
      location: start ? `${file}:${start.line + 1}:${start.character + 1}` : file,
      remedy: "The file is not TypeScript that can be read.",
    });
  }
  return {
    code: outputText.replace(/^\/\/# sourceMappingURL=.*$/m, ""),
    map: new SourceMap(JSON.parse(sourceMapText ?? "{}")),
  };
}

function imported(name: string, path: string, file: string): unknown {
  if (name === "ithaca") return complete;
  if (/^\.{1,2}\//.test(name)) {
    const target = resolve(dirname(path), name);
    return extname(target) === ".json" ? JSON.parse(readFileSync(target, "utf8")) : loadModule(target, file);
  }
  try {
    return createRequire(path)(name);
  } catch (error) {
    throw new UserError(`"${name}" can't be imported: ${(error as Error).message.split("\n")[0]}`, {
      location: file,
      remedy:
        'Passes and ops import from "ithaca", from files beside them (with .ts), and from installed packages.',
    });
  }
}

/** The library; a name that it lacks is an error at once, not `undefined` that fails somewhere later. */
const complete = new Proxy(library as Exports, {
  get(target, name) {
    if (typeof name !== "string" || name in target || name === "__esModule" || name === "then") {
      return name === "__esModule" ? true : target[name as string];
    }
    throw new UserError(`"ithaca" has no "${name}" for passes and ops`, {
      remedy:
        "What they may import is in docs/passes.md; compiling and training are not for use inside a pass.",
    });
  },
});
