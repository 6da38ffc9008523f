/** @file The door for library users: compiling, the IR, passes, and compiled programs inside a Node process. */
export { buildProgram } from "./codegen/build.ts";
export { type Compiled, type CompileOptions, compileConfig } from "./compile.ts";
export { type Config, loadConfig, parseConfig } from "./config/load.ts";
export * from "./extend/library.ts";
export { lowerDefinition } from "./frontend/index.ts";
export { type Plan, printPlan } from "./ir/plan.ts";
export { openProgram, type Program } from "./launch/program.ts";
export { train } from "./launch/train.ts";
export { type PipelineEntry, trainingPipeline } from "./passes/pipeline.ts";
export { runPipeline, type Stage } from "./passes/run.ts";
