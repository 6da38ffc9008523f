/** @file The end of `npm run build`: puts what tsc doesn't copy beside the compiled files. */
import { chmodSync, cpSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

cpSync(join(root, "src"), join(root, "dist"), {
  recursive: true,
  filter: (path) => !/\.[^/.]+$/.test(path) || path.endsWith(".njk"),
});
chmodSync(join(root, "dist/cli/main.js"), 0o755);
