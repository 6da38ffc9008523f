/** @file Builds the page of `ithaca view` as one HTML file, dist/viewer/index.html. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { viteSingleFile } from "vite-plugin-singlefile";

const root = fileURLToPath(new URL("..", import.meta.url));

export async function buildViewer() {
  await build({
    root: join(root, "src/viewer/page"),
    configFile: false,
    logLevel: "warn",
    plugins: [viteSingleFile()],
    build: { outDir: join(root, "dist/viewer"), emptyOutDir: false, target: "es2022" },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildViewer();
