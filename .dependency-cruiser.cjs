/** @file Which folder may import which: imports point downwards, cli and compile -> frontend, passes, codegen, launch -> ir. */

/** A rule: files under `folder` may import, of ours, only what is in `allowed` (and their own folder, and the cache). */
function only(folder, allowed, because) {
  const inside = [folder, ...allowed, "cache\\.ts"].map((name) => `^src/${name}`);
  return {
    name: `${folder.replace(/[/\\.$]/g, "-")}-imports`,
    comment: because,
    severity: "error",
    from: { path: `^src/${folder}` },
    to: { path: "^src/", pathNot: inside },
  };
}

module.exports = {
  forbidden: [
    {
      name: "no-cycles",
      comment: "A cycle hides which file is the lower one; move what both need below both.",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no-unresolvable",
      severity: "error",
      from: {},
      to: { couldNotResolve: true, pathNot: "^ithaca(/|$)" },
    },
    only("ir/", [], "ir is the bottom: everything else is written in its words."),
    only("passes/", ["ir/"], "A pass sees the graph and nothing else."),
    only("codegen/", ["ir/"], "Codegen sees the plan and nothing else."),
    only("plan/", ["ir/", "passes/"], "What a plan needs is read off the plan."),
    only("viewer/", ["ir/", "plan/"], "The page shows graphs and plans."),
    only("nn/", [], "What a definition imports stands alone."),
    only("models/", ["nn/"], "Shipped definitions are read as a user's own are."),
    only("frontend/", ["ir/", "nn/", "models/"], "The frontend ends at the graph."),
    only("config/", ["ir/error", "ir/nearest"], "Configuration is read before there is a graph."),
    only("data/", ["ir/error"], "Data preparation knows text and tokens only."),
    only(
      "launch/",
      ["ir/", "codegen/", "config/", "data/", "frontend/huggingface"],
      "Launching starts what codegen built, on the files of a model directory.",
    ),
    {
      name: "cli-is-the-top",
      comment: "Commands read arguments; what others need of them belongs below.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/cli/" },
      to: { path: "^src/cli/" },
    },
    {
      name: "compile-is-near-the-top",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/(cli/|index|compile|forecast|explain|check-op)" },
      to: { path: "^src/(compile|forecast|explain|check-op|index)\\." },
    },
    {
      name: "no-test-in-source",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "^(test|bench|scripts|examples)/" },
    },
    {
      name: "no-development-package-in-source",
      comment:
        "A package that src imports must be installed for users too; the page is shipped with its own inside.",
      severity: "error",
      from: { path: "^src/", pathNot: "^src/viewer/page/" },
      to: { dependencyTypes: ["npm-dev"], dependencyTypesNot: ["type-only"] },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)fixtures/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.test.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "types", "node", "default"],
    },
  },
};
