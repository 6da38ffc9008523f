/** @file Ops of one's own: what follows from their records, and what is refused. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test, vi } from "vitest";
import { runCommandLine } from "../../src/cli/run.ts";
import { loadOps } from "../../src/extend/ops.ts";
import { loadPasses } from "../../src/extend/passes.ts";
import { lowerDefinition } from "../../src/frontend/index.ts";
import { allNodes, type Graph } from "../../src/ir/graph.ts";
import { recordOf } from "../../src/ir/ops/index.ts";
import { parse } from "../../src/ir/parse.ts";
import { print } from "../../src/ir/print.ts";
import { verify } from "../../src/ir/verify.ts";
import { builtinPasses, parsePasses, withPasses } from "../../src/passes/arrange.ts";
import { numbersKept } from "../../src/passes/check.ts";
import { runPipeline } from "../../src/passes/run.ts";
import { refusalOf } from "../support/expect.ts";

const scratch = mkdtempSync(join(tmpdir(), "ithaca-ops-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const examples = fileURLToPath(new URL("../../examples/custom-op/", import.meta.url));
const center = fileURLToPath(new URL("fixtures/center.ts", import.meta.url));

let files = 0;
/** A new file with this text, beside it others. */
function written(text: string, others: Readonly<Record<string, string>> = {}): string {
  const folder = join(scratch, String(files++));
  mkdirSync(folder);
  for (const [name, own] of Object.entries(others)) writeFileSync(join(folder, name), own);
  const file = join(folder, "my-op.ts");
  writeFileSync(file, text);
  return file;
}

/** A record of one operand; `changes` replaces lines of it. */
const recordText = (name: string, changes: Readonly<Record<string, string>> = {}): string => {
  const fields = {
    name: JSON.stringify(name),
    doc: '"2 x"',
    operands: '["x"]',
    attrs: "{}",
    sharding: '"... -> ..."',
    infer: "([x]) => [tensor(x.dtype, sizesOf(x))]",
    gradient: "({ grads: [dy] }) => [ops.scale(dy, { by: 2 })]",
    cost: "(types, _attrs, results) => ({ flops: elements(results[0]), bytes: bytesOf(types, results) })",
    eval: "([x]) => [array(x.sizes, x.data.map((value) => 2 * value))]",
    ...changes,
  };
  const lines = Object.entries(fields).filter(([, value]) => value !== "");
  return `import { array, bytesOf, defineKernel, defineOp, elements, ops, sizesOf, tensor } from "ithaca";
export const own = defineOp({
${lines.map(([key, value]) => `  ${key}: ${value},`).join("\n")}
});
`;
};

describe("the example's op and one with everything", () => {
  loadOps(join(examples, "squared_relu.ts"));
  loadOps(center);

  /** A block whose rows are centred: the sequence is split before, and must be whole in no op but attention. */
  const text = `graph g mesh(sp=2) {
  param %w init="normal 0.5"                                     : f32[6]
  param %v init="normal 0.5"                                     : f32[6, 6]
  input %x                                                       : f32[2, 8, 6]
  input %labels                                                  : i32[2, 8]
  %h, %h.mean = center %x, %w by=0.5 negative=true               : f32[2, 8, 6], f32[2, 8]
  %up = matmul %h, %v                                            : f32[2, 8, 6]
  %y = squared_relu %up                                          : f32[2, 8, 6]
  %loss_sum, %loss_count, %lse = cross_entropy %y, %labels       : f32[], i32[], f32[2, 8]
  return loss_sum = %loss_sum
  return loss_count = %loss_count
}
`;
  const checked = (graph: Graph, list: string): { graph: Graph; lines: string[] } => {
    const lines: string[] = [];
    const stages = runPipeline(graph, parsePasses(list, builtinPasses()), {
      compare: numbersKept({ report: (line) => lines.push(line) }),
    });
    return { graph: stages[stages.length - 1].graph, lines };
  };
  const opsOf = (graph: Graph) => allNodes(graph.nodes).map(({ op }) => op);

  test("print, and parse to the same", () => {
    const graph = parse(text);
    expect(print(parse(print(graph)))).toBe(print(graph));
    expect(print(graph)).toContain("= center %x, %w by=0.5 negative=true");
  });

  test("are split with the sequence, tiled, differentiated and fused around, with the numbers checked rank by rank", () => {
    const { graph, lines } = checked(
      parse(text),
      "shard; ulysses; tile-mlp tiles=2; differentiate; simplify; fuse",
    );
    expect(opsOf(graph)).not.toContain("all_to_all");
    for (const op of ["center", "center_grad", "squared_relu", "fused"]) expect(opsOf(graph)).toContain(op);
    expect(lines.find((line) => line.startsWith("shard"))).toContain("2 results");
    expect(lines.find((line) => line.startsWith("differentiate"))).toContain("rank by rank on 2 ranks");
  });

  test("get exchanges where what they need whole is split", () => {
    const graph = parse(`graph g mesh(sp=2) {
  param %w init=ones                     : f32[6]
  input %x                               : f32[2, 6]
  %h, %h.mean = center %x, %w            : f32[2, 6], f32[2]
  return h = %h
}
`);
    const { graph: after, lines } = checked(graph, "shard; ulysses");
    expect(opsOf(after)).toContain("all_to_all");
    expect(lines[lines.length - 1]).toContain("rank by rank on 2 ranks");
  });

  test("an example's pass puts one in, exactly", () => {
    const known = withPasses(builtinPasses(), loadPasses(join(examples, "use-squared-relu.ts")));
    const graph = parse(`graph g {
  input %x                               : f32[1, 8, 6]
  %r = relu %x                           : f32[1, 8, 6]
  %y = mul %r, %r                        : f32[1, 8, 6]
  return y = %y
}
`);
    const lines: string[] = [];
    const stages = runPipeline(graph, parsePasses("use-squared-relu; simplify", known), {
      compare: numbersKept({ report: (line) => lines.push(line) }),
    });
    expect(opsOf(stages[stages.length - 1].graph)).toEqual(["squared_relu"]);
    expect(lines[0]).toBe("use-squared-relu: 1 results bit for bit");
  });
});

describe("--check names", () => {
  const graphOf = (op: string) =>
    parse(`graph g mesh(sp=2) {
  param %w init="normal 0.5"                                     : f32[6]
  input %x                                                       : f32[2, 8, 6]
  input %labels                                                  : i32[2, 8]
  %h = mul %x, %w                                                : f32[2, 8, 6]
  %y = ${op} %h                                                  : f32[2, 8, 6]
  %loss_sum, %loss_count, %lse = cross_entropy %y, %labels       : f32[], i32[], f32[2, 8]
  return loss_sum = %loss_sum
  return loss_count = %loss_count
}
`);
  const complaintAbout = (op: string, list: string): string => {
    try {
      runPipeline(graphOf(op), parsePasses(list, builtinPasses()), { compare: numbersKept() });
    } catch (error) {
      return (error as Error).message;
    }
    return "nothing was wrong";
  };

  test("a gradient that is not the slope", () => {
    const gradient = "({ grads: [dy] }) => [ops.scale(dy, { by: 3 })]";
    loadOps(written(recordText("wrong_gradient", { gradient })));
    loadOps(written(recordText("right_gradient")));
    expect(complaintAbout("wrong_gradient", "differentiate")).toContain("the gradient of %w is wrong");
    expect(complaintAbout("right_gradient", "differentiate")).toBe("nothing was wrong");
  });
  test("a rule that lets ranks share what must be whole", () => {
    const evaluated = "([x]) => [array(x.sizes, x.data.map((value) => value * x.data[x.data.length - 1]))]";
    loadOps(written(recordText("wrong_rule", { eval: evaluated, gradient: "null" })));
    expect(complaintAbout("wrong_rule", "shard; ulysses")).toMatch(/run by 2 ranks, loss_sum .*\n.*%y/);
  });
});

describe("ithaca opt", () => {
  const run = async (...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> => {
    const written: Record<"stdout" | "stderr", string> = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      vi.spyOn(process[stream], "write").mockImplementation((text) => {
        written[stream] += text;
        return true;
      });
    }
    const code = await runCommandLine(["opt", ...args]);
    vi.restoreAllMocks();
    return { code, ...written };
  };
  const graph = (op: string): string => {
    const file = join(scratch, `${op}.ir`);
    const text = `graph g {
  param %x init=ones                                             : f32[2, 3]
  input %labels                                                  : i32[2]
  %y = ${op} %x                                                  : f32[2, 3]
  %loss_sum, %loss_count, %lse = cross_entropy %y, %labels       : f32[], i32[], f32[2]
  return loss_sum = %loss_sum
  return loss_count = %loss_count
}
`;
    writeFileSync(file, text);
    return file;
  };

  test("reads a graph with an op that a loaded file has, and says how where none is loaded", async () => {
    const file = graph("opt_loaded");
    const without = await run(file, "--passes", "simplify");
    expect(without.code).toBe(1);
    expect(without.stderr).toContain('there is no op "opt_loaded"');
    expect(without.stderr).toContain("--load FILE.ts adds those of a file");
    const op = written(recordText("opt_loaded"));
    const { code, stdout } = await run(file, "--load", op, "--passes", "differentiate", "--check");
    expect(code).toBe(0);
    expect(stdout).toContain("%y = opt_loaded %x");
  });
  test("says of a pass that fails on it where to look, and how to run it again", async () => {
    const op = written(
      recordText("opt_wrong", { gradient: "({ grads: [dy] }) => [ops.scale(dy, { by: 3 })]" }),
    );
    const { code, stderr } = await run(
      ...[graph("opt_wrong"), "--load", op, "--passes", "differentiate", "--check"],
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/The graph has ops of your own, from .*my-op.ts: see first that they hold/);
    expect(stderr).not.toContain("fault of Ithaca");
    expect(stderr).toMatch(
      /ithaca opt .*before-differentiate.ir --load .*my-op.ts --passes differentiate --check/,
    );
  });
});

describe("a file with ops", () => {
  test.each([
    ["a name that is ours", recordText("relu"), 'there is an op "relu" already\n  It is one of Ithaca\'s'],
    ["no name", recordText("x", { name: '"My-op"' }), "has no name that can be used"],
    ["no eval", recordText("own_1", { eval: "" }), 'the op "own_1" has no eval'],
    ["no gradient", recordText("own_2", { gradient: "" }), "gradient: null if it can't be differentiated."],
    ["elementwise", recordText("own_3", { elementwise: "true" }), "says elementwise"],
    [
      "a rule of two",
      recordText("own_4", { sharding: '"..., ... -> ..."' }),
      "a term for each of 1 operands",
    ],
    ["no arrow", recordText("own_5", { sharding: '"..."' }), 'the sharding rule "...", without an arrow'],
    ["a collective", recordText("own_6", { sharding: '"moves"' }), "moves data between ranks"],
    ["any number", recordText("own_7", { operands: '["...xs"]' }), 'takes any number of operands, "...xs"'],
    ["a C++ word", recordText("own_8", { attrs: "{ float: 1 }" }), 'can\'t call a parameter "float"'],
    ["a name twice", recordText("own_9", { attrs: "{ x: 1 }" }), 'has the name "x" twice'],
    [
      "no kernel there",
      `${recordText("own_10")}export const kernel = defineKernel(own, { cpu: "none.cc" });`,
      "the kernel of own_10 for cpu\n  Its path is relative to the file that calls defineKernel.",
    ],
    [
      "a kernel that is none",
      `${recordText("own_11")}export const kernel = defineKernel(own, { cuda: "own.cc" });`,
      "the kernel of own_11 for cuda is own.cc\n  It is a file that ends in .cu.",
    ],
    ["no op", "export const five = 5;", "exports no op"],
  ])("is refused with %s", async (_, text, message) => {
    const file = written(text);
    const said = await refusalOf(() => loadOps(file));
    expect(said).toContain(message);
    expect(said.startsWith(file)).toBe(true);
  });

  test("is refused where another has an op of that name; its own are replaced when it changes", async () => {
    const first = written(recordText("twice"));
    loadOps(first);
    const other = written(recordText("twice"));
    expect(await refusalOf(() => loadOps(other))).toBe(
      `${other}: there is an op "twice" already\n  It is in ${first}; choose another name.`,
    );
    writeFileSync(first, recordText("twice", { doc: '"now another"' }));
    loadOps(first);
    expect(recordOf("twice").doc).toBe("now another");
    writeFileSync(first, recordText("no_longer_twice"));
    loadOps(first);
    loadOps(other);
    expect(recordOf("twice").doc).toBe("2 x");
  });

  test("that imports another makes its ops known as well", () => {
    const base = recordText("from_beside");
    const file = written('export { own } from "./beside.ts";\nexport const five = 5;\n', {
      "beside.ts": base,
    });
    expect([...loadOps(file).ops.keys()]).toEqual(["own"]);
    expect(recordOf("from_beside").doc).toBe("2 x");
  });

  test("whose record throws is named with the line", () => {
    const file = written(recordText("faulty", { infer: "([x]) => [tensor(x.dtype, x.nothing.sizes)]" }));
    loadOps(file);
    const graph = "graph g {\n  input %x : f32[2]\n  %y = faulty %x : f32[2]\n  return y = %y\n}\n";
    const [complaint] = verify(parse(graph));
    expect(complaint.message).toContain(
      `infer of faulty threw at ${file}:8: Cannot read properties of undefined (reading 'sizes')`,
    );
  });
});

describe("a definition", () => {
  const definition = (use: string, from = "./my-op.ts", what = "own") => `
import { type Batch, cross_entropy, Embedding, type Loss, Module, matmul } from "ithaca/nn";
import { ${what} } from "${from}";
export class Model extends Module {
  embedding: Embedding;
  constructor() {
    super();
    this.embedding = new Embedding(11, 4);
  }
  forward({ input_ids, labels }: Batch): Loss {
    const x = this.embedding.forward(input_ids);
    return cross_entropy(matmul(${use}, this.embedding.weight, { transpose_b: true }), labels);
  }
}
`;
  let count = 0;
  const lowered = (use: string, record: Readonly<Record<string, string>> = {}, what = "own") => {
    const ops = written(recordText(`called_${count++}`, { attrs: "{ by: 0.5, axis: [0] }", ...record }));
    const file = join(ops, "../model.ts");
    writeFileSync(file, definition(use, "./my-op.ts", what));
    return lowerDefinition({ file, config: {}, name: "m", batch: 1, sequence: 4, ops: [loadOps(ops)] });
  };

  test("calls an op with its attributes", async () => {
    const graph = await lowered("own(x, { by: 1.5 })");
    const node = graph.nodes.find(({ op }) => op.startsWith("called_"));
    expect(node?.attrs).toEqual({ by: 1.5, axis: [0] });
    expect(node?.loc).toBe("model.ts:12");
  });
  test.each([
    ["own()", {}, "own", "takes 1 or 2 arguments, not 0"],
    ["own(x, { bye: 1 })", {}, "own", 'has no attribute "bye"\n'],
    ["own(x, { by: [1] })", {}, "own", "must be a finite number, not"],
    ["five(x)", {}, "five", '"./my-op.ts" has no "five"'],
    ["own(x)", { gradient: "null" }, "own", '"./my-op.ts" has no "own"'],
  ])("is refused where it says %s", async (use, record, what, message) => {
    expect(await refusalOf(() => lowered(use, record, what))).toContain(message);
  });
  test("is told where to name a file with ops", async () => {
    const ops = written(recordText("not_named"));
    const file = join(ops, "../model.ts");
    writeFileSync(file, definition("own(x)"));
    const said = await refusalOf(() =>
      lowerDefinition({ file, config: {}, name: "m", batch: 1, sequence: 4 }),
    );
    expect(said).toContain("name it in config.yaml: ops: [./my-op.ts]");
  });
});
