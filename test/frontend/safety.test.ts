/** @file What the language of definitions leaves out, and how it says so: no definition reaches the host, runs for ever or fills memory. */
import { expect, test } from "vitest";
import { definition, lowered, type Parts, refusal } from "./lowering.ts";

type Source = Parts;

const table: readonly (readonly [what: string, source: Source, message: string])[] = [
  // the language
  [
    "a mistake of syntax",
    { forward: "h = = h;" },
    `
tiny.ts:12:9: expression expected
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = = h;
     |         ^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "a name that there is not",
    { build: "const x = wdth;" },
    `
tiny.ts:9:15: "wdth" is not defined
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const x = wdth;
     |               ^^^^
  10 |   }
  Declare it, or import it from "ithaca/nn".`,
  ],
  [
    "a name before its line",
    { build: "const x = y; const y = 1;" },
    `
tiny.ts:9:15: "y" is used before it is declared
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const x = y; const y = 1;
     |               ^
  10 |   }`,
  ],
  [
    "a constant that is set",
    { build: "const a = 1; a = 2;" },
    `
tiny.ts:9:18: "a" is a constant
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const a = 1; a = 2;
     |                  ^
  10 |   }
  Declare it with let.`,
  ],
  [
    "try",
    { forward: "try { h = silu(h); } catch {}" },
    `
tiny.ts:12:5: try statement is not supported in a definition
  11 |     let h = this.embed.forward(input_ids);
> 12 |     try { h = silu(h); } catch {}
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  A definition is read, not executed: write it with classes, functions, constants, conditions and loops.`,
  ],
  [
    "an async function",
    { build: "const f = async () => 1; f();" },
    `
tiny.ts:9:15: async functions are not supported in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const f = async () => 1; f();
     |               ^^^^^
  10 |   }`,
  ],
  [
    "a regular expression",
    { build: "const x = /a/;" },
    `
tiny.ts:9:15: regular expression literal is not supported in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const x = /a/;
     |               ^^^
  10 |   }
  A definition is read, not executed: write it with classes, functions, constants, conditions and loops.`,
  ],
  [
    "a type error in a branch not taken",
    { forward: 'if (h.shape.length > 5) h = "wide";' },
    `
tiny.ts:12:29: type 'string' is not assignable to type 'Tensor'
  11 |     let h = this.embed.forward(input_ids);
> 12 |     if (h.shape.length > 5) h = "wide";
     |                             ^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "a loop without end",
    { forward: "while (true) h = h;" },
    `
tiny.ts:12:5: the definition takes more than 5,000,000 steps
  11 |     let h = this.embed.forward(input_ids);
> 12 |     while (true) h = h;
     |     ^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Is there a loop without end?`,
  ],
  [
    "a recursion without end",
    { top: "function f(x: number): number { return f(x + 1); }", build: "f(1);" },
    `
tiny.ts:2:40: calls are nested more than 150 deep
  1 | import { add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, parameter, RMSNorm, scale, silu, split_heads, type Tensor } from "ithaca/nn";
> 2 | function f(x: number): number { return f(x + 1); }
    |                                        ^^^^^^^^
  3 | export class Tiny extends Module {
  Is there a recursion without end?`,
  ],
  [
    "an array that fills memory",
    { build: "let a = [1]; while (true) a = [...a, ...a];" },
    `
tiny.ts:9:36: the definition takes more than 5,000,000 steps
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     let a = [1]; while (true) a = [...a, ...a];
     |                                    ^^^^
  10 |   }
  Is there a loop without end?`,
  ],
  [
    "a string that fills memory",
    { build: 'let s = "x"; while (true) s = s + s;' },
    `
tiny.ts:9:35: the string would have 16384 characters
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     let s = "x"; while (true) s = s + s;
     |                                   ^^^^^
  10 |   }
  A definition's strings have at most 10,000.`,
  ],
  [
    "a string that replace makes",
    { build: 'let s = "x"; while (true) s = s.replace("x", s + s);' },
    `
tiny.ts:9:50: the string would have 19684 characters
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     let s = "x"; while (true) s = s.replace("x", s + s);
     |                                                  ^^^^^
  10 |   }
  A definition's strings have at most 10,000.`,
  ],
  [
    "a string that join makes",
    { build: "const xs = Array.from({ length: 9000 }, () => 12); xs.join();" },
    `
tiny.ts:9:56: the string would have 27000 characters
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const xs = Array.from({ length: 9000 }, () => 12); xs.join();
     |                                                        ^^^^^^^^^
  10 |   }
  A definition's strings have at most 10,000.`,
  ],
  [
    "brackets nested by the thousand",
    { build: `const x = ${"(".repeat(3000)}1${")".repeat(3000)};` },
    `
tiny.ts: the definition is nested too deeply`,
  ],
  // what a definition has no business with
  [
    "the process",
    { build: "process.exit(1);" },
    `
tiny.ts:9:5: "process" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     process.exit(1);
     |     ^^^^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "eval",
    { build: 'eval("1");' },
    `
tiny.ts:9:5: "eval" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     eval("1");
     |     ^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "a constructor's constructor",
    { build: 'this.constructor.constructor("return process")().exit();' },
    `
tiny.ts:9:10: "constructor" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     this.constructor.constructor("return process")().exit();
     |          ^^^^^^^^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "a function's constructor",
    { build: '(() => 1).constructor("x");' },
    `
tiny.ts:9:15: "constructor" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     (() => 1).constructor("x");
     |               ^^^^^^^^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "a computed way to it",
    { build: 'const key = "construc" + "tor"; [][key];' },
    `
tiny.ts:9:37: "constructor" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const key = "construc" + "tor"; [][key];
     |                                     ^^^^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "new Function",
    { build: 'new Function("x");' },
    `
tiny.ts:9:9: "Function" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     new Function("x");
     |         ^^^^^^^^
  10 |   }
  A definition is read, never executed.`,
  ],
  [
    "the prototype",
    { build: 'const o = { ["__proto__"]: 1 };' },
    `
tiny.ts:9:17: "__proto__" is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const o = { ["__proto__"]: 1 };
     |                 ^^^^^^^^^^^^^^^^
  10 |   }`,
  ],
  [
    "a package",
    { top: 'import { readFileSync } from "node:fs";' },
    `
tiny.ts:2:30: "node:fs" can't be imported into a definition
  1 | import { add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, parameter, RMSNorm, scale, silu, split_heads, type Tensor } from "ithaca/nn";
> 2 | import { readFileSync } from "node:fs";
    |                              ^^^^^^^^^
  3 | export class Tiny extends Module {
  A definition imports "ithaca/nn" and definition files beside it, such as "./blocks.ts".`,
  ],
  [
    "import()",
    { build: 'import("node:fs");' },
    `
tiny.ts:9:5: import() is not available in a definition
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     import("node:fs");
     |     ^^^^^^^^^^^^^^^^^
  10 |   }
  Import at the top of the file.`,
  ],
  [
    "a file that is not TypeScript",
    { top: 'import data from "../../../../etc/passwd";' },
    `
tiny.ts:2:18: there is no definition file "../../../../etc/passwd"
  1 | import { add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, parameter, RMSNorm, scale, silu, split_heads, type Tensor } from "ithaca/nn";
> 2 | import data from "../../../../etc/passwd";
    |                  ^^^^^^^^^^^^^^^^^^^^^^^^
  3 | export class Tiny extends Module {
  Relative imports end in .ts: "./blocks.ts".`,
  ],
  [
    "a file that there is not",
    { top: 'import { Block } from "./block.ts";' },
    `
tiny.ts:2:23: there is no definition file "./block.ts"
  1 | import { add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, parameter, RMSNorm, scale, silu, split_heads, type Tensor } from "ithaca/nn";
> 2 | import { Block } from "./block.ts";
    |                       ^^^^^^^^^^^^
  3 | export class Tiny extends Module {
  Relative imports end in .ts: "./blocks.ts".`,
  ],
  [
    "a name that ithaca/nn has not",
    { top: 'import { LayerNorm, Liner } from "ithaca/nn";' },
    `
tiny.ts:2:10: "ithaca/nn" has no "LayerNorm"
  1 | import { add, attention, type Batch, concat, constant, cross_entropy, Embedding, Linear, type Loss, matmul, Module, mul, parameter, RMSNorm, scale, silu, split_heads, type Tensor } from "ithaca/nn";
> 2 | import { LayerNorm, Liner } from "ithaca/nn";
    |          ^^^^^^^^^
  3 | export class Tiny extends Module {
  The names there are Linear, Embedding, RMSNorm, Module, parameter, add, sub, mul, div, neg, exp, log, sqrt, tanh, sigmoid, scale ...`,
  ],
];

test.each(table)("%s", async (_, source, message) => {
  const text = definition(source);
  expect(`\n${await refusal(lowered(text))}`).toBe(message);
});
