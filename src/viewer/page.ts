/** @file The page with its data in it: one HTML file that needs nothing else. */
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { UserError } from "../ir/error.ts";
import type { ViewData } from "./view-data.ts";

/** Made by `npm run build`, shipped with the package. The same seen from src/ and from dist/. */
const builtPage = fileURLToPath(new URL("../../dist/viewer/index.html", import.meta.url));

/** Throws UserError in a checkout where the page has not been built. */
export function pageOf(data: ViewData): string {
  if (!existsSync(builtPage)) {
    throw new UserError("the page of the viewer has not been built", {
      location: builtPage,
      remedy: "Run npm run build.",
    });
  }
  // What could end the element that holds the data, or begin a comment in it, is written as JSON's own escapes.
  const json = JSON.stringify(data).replace(/</g, "\\u003c");
  const place = /(<script id="data" type="application\/json">)null(?=<\/script>)/;
  return readFileSync(builtPage, "utf8").replace(place, (_, tag: string) => `${tag}${json}`);
}
