/** @file Every refusal of a definition, word for word: where, what is wrong, what to do. */
import { expect, test } from "vitest";
import { definition, lowered, type Parts, refusal } from "./lowering.ts";

type Source = Parts | { readonly text: string };

const table: readonly (readonly [what: string, source: Source, message: string])[] = [
  // tensors and ops
  [
    "an operator on tensors",
    { forward: "h = h + h;" },
    `
tiny.ts:12:9: + works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h + h;
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use add(a, b).`,
  ],
  [
    "a tensor times a number",
    { forward: "h = h * 2;" },
    `
tiny.ts:12:9: * works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h * 2;
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use mul(a, b), or scale(a, { by: 2 }) for a number.`,
  ],
  [
    "a number as an operand",
    { forward: "h = mul(h, 2);" },
    `
tiny.ts:12:16: b of mul must be a tensor, not the number 2
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = mul(h, 2);
     |                ^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use scale(x, { by: 2 }).`,
  ],
  [
    "minus a tensor",
    { forward: "h = -h;" },
    `
tiny.ts:12:9: - works on numbers, and this is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = -h;
     |         ^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use neg(x).`,
  ],
  [
    "a condition on elements",
    { forward: "if (h > 0) h = silu(h);" },
    `
tiny.ts:12:9: > works on numbers, and its left side is a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     if (h > 0) h = silu(h);
     |         ^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  The elements of a tensor are not known when the model is compiled.`,
  ],
  [
    "a method of tensors",
    { forward: "h = h.mul(h);" },
    `
tiny.ts:12:11: a tensor has no "mul"
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = h.mul(h);
     |           ^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  mul is a function: mul(x, ...), imported from "ithaca/nn".`,
  ],
  [
    "an op that there is not",
    { forward: "h = atention(h);" },
    `
tiny.ts:12:9: "atention" is not defined
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = atention(h);
     |         ^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Did you mean "attention"?`,
  ],
  [
    "an op that is not imported",
    { forward: "h = swiglu(h, h);" },
    `
tiny.ts:12:9: "swiglu" is not imported
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = swiglu(h, h);
     |         ^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Write: import { swiglu } from "ithaca/nn";`,
  ],
  [
    "an attribute that there is not",
    { forward: "h = matmul(h, this.embed.weight, { transpos_b: true });" },
    `
tiny.ts:12:38: matmul has no attribute "transpos_b"
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = matmul(h, this.embed.weight, { transpos_b: true });
     |                                      ^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Did you mean "transpose_b"?`,
  ],
  [
    "an attribute of a wrong type",
    { forward: "h = split_heads(h, { heads: 1.5 });" },
    `
tiny.ts:12:24: heads of split_heads must be a whole number of at least 0, not the number 1.5
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = split_heads(h, { heads: 1.5 });
     |                        ^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "a list of wrong numbers",
    { forward: "h = constant({ value: 1, dims: [4, -1] });" },
    `
tiny.ts:12:18: dims of constant must be an array of whole numbers, not an array of 2
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = constant({ value: 1, dims: [4, -1] });
     |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "an attribute that is missing",
    { forward: "split_heads(h, {});" },
    `
tiny.ts:12:5: split_heads needs the attribute heads
  11 |     let h = this.embed.forward(input_ids);
> 12 |     split_heads(h, {});
     |     ^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Write: split_heads(..., { heads: ... })`,
  ],
  [
    "too few operands",
    { forward: "h = add(h);" },
    `
tiny.ts:12:9: add takes 2 arguments, not 1
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = add(h);
     |         ^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  It is called as add(a, b).`,
  ],
  [
    "too many operands",
    { forward: "h = silu(h, h, h);" },
    `
tiny.ts:12:9: silu takes 1 argument, not 3
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = silu(h, h, h);
     |         ^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  It is called as silu(x).`,
  ],
  [
    "no list of tensors",
    { forward: "h = concat(h, { dim: 0 });" },
    `
tiny.ts:12:16: concat takes an array of tensors, not a tensor f32[1, 4, 8]
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = concat(h, { dim: 0 });
     |                ^
  13 |     return cross_entropy(this.head.forward(h), labels);`,
  ],
  [
    "sizes that don't fit",
    {
      fields: "  odd: Linear;",
      build: "this.odd = new Linear(config.width + 1, config.width);",
      forward: "h = this.odd.forward(h);",
    },
    `
tiny.ts:14:9: matmul: [1, 4, 8] by [8, 9]: 8 and 9 differ
  13 |     let h = this.embed.forward(input_ids);
> 14 |     h = this.odd.forward(h);
     |         ^^^^^^^^^^^^^^^^^^^
  15 |     return cross_entropy(this.head.forward(h), labels);
  The last dimension of the input must equal the weight's number of input features.`,
  ],
  [
    "heads that don't divide",
    { forward: "split_heads(h, { heads: 3 });" },
    `
tiny.ts:12:5: split_heads: a last dimension of 8 can't be split into 3 heads
  11 |     let h = this.embed.forward(input_ids);
> 12 |     split_heads(h, { heads: 3 });
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Use a number of heads that divides 8.`,
  ],
  [
    "ops outside forward",
    { build: "add(this.embed.weight, this.embed.weight);" },
    `
tiny.ts:9:5: add computes with tensors, which there are only in forward
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     add(this.embed.weight, this.embed.weight);
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }
  Constructors make parameters and modules; call ops in forward.`,
  ],
  // modules and parameters
  [
    "a field that there is not",
    { forward: "h = this.haed.forward(h);" },
    `
tiny.ts:12:14: a Tiny has no "haed"
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = this.haed.forward(h);
     |              ^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Did you mean "head"?`,
  ],
  [
    "a module that is called",
    { forward: "h = this.head(h);" },
    `
tiny.ts:12:9: a Linear can't be called
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = this.head(h);
     |         ^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Call its forward: x.forward(...)`,
  ],
  [
    "too many arguments",
    { forward: "h = this.embed.forward(h, h);" },
    `
tiny.ts:12:9: forward takes 1 argument, not 2
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = this.embed.forward(h, h);
     |         ^^^^^^^^^^^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  It is declared as forward(ids).`,
  ],
  [
    "too few arguments",
    { build: "new Linear(4);" },
    `
tiny.ts:9:5: new Linear takes 2 to 3 arguments, not 1
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     new Linear(4);
     |     ^^^^^^^^^^^^^
  10 |   }
  It is declared as new Linear(in_features, out_features, { bias = true }).`,
  ],
  [
    "a size that is not whole",
    { build: "new Linear(config.width / 3, 2);" },
    `
tiny.ts:9:5: size 1 of a parameter is the number 2.6666666666666665
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     new Linear(config.width / 3, 2);
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }
  Sizes are whole numbers of at least 1.`,
  ],
  [
    "an initialization that there is not",
    { build: 'parameter([2], "uniform");' },
    `
tiny.ts:9:20: a parameter can't begin as "uniform"
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     parameter([2], "uniform");
     |                    ^^^^^^^^^
  10 |   }
  Use "normal", "normal 0.02", "zeros" or "ones".`,
  ],
  [
    "a parameter made in forward",
    { forward: "h = add(h, parameter([8]));" },
    `
tiny.ts:12:16: a parameter is made in forward
  11 |     let h = this.embed.forward(input_ids);
> 12 |     h = add(h, parameter([8]));
     |                ^^^^^^^^^^^^^^
  13 |     return cross_entropy(this.head.forward(h), labels);
  Make it in the constructor and keep it in a field.`,
  ],
  [
    "a parameter in no field",
    { top: "const w = parameter([8]);", forward: "h = add(h, w);" },
    `
tiny.ts:13:16: this parameter has no name, because no field of the model holds it
  12 |     let h = this.embed.forward(input_ids);
> 13 |     h = add(h, w);
     |                ^
  14 |     return cross_entropy(this.head.forward(h), labels);
  Keep it in a field of a module: this.weight = parameter([...]).`,
  ],
  [
    "a parameter without effect",
    { fields: "  extra: Linear;", build: "this.extra = new Linear(4, 4);" },
    `
tiny.ts:10:18: the loss does not depend on the parameter extra.weight
   9 |     this.head = new Linear(config.width, config.vocab, { bias: false });
> 10 |     this.extra = new Linear(4, 4);
     |                  ^^^^^^^^^^^^^^^^
  11 |   }
  Use it in forward, or remove the field.`,
  ],
  [
    "a parameter named as an input",
    { fields: "  labels = parameter([8]);", forward: "h = add(h, this.labels);" },
    `
tiny.ts:5:12: a parameter can't be named "labels"
  4 |   head: Linear;
> 5 |   labels = parameter([8]);
    |            ^^^^^^^^^^^^^^
  6 |   constructor(config: any) {
  Names are made of letters, digits and _.`,
  ],
  [
    "a class that is not constructed",
    { build: "Linear(1, 2);" },
    `
tiny.ts:9:5: Linear is a class
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     Linear(1, 2);
     |     ^^^^^^^^^^^^
  10 |   }
  Write: new Linear(...)`,
  ],
  [
    "no class at all",
    { text: 'import { Module } from "ithaca/nn";\nclass Tiny extends Module {}\n' },
    `
tiny.ts exports no class
  Export the class of the whole model: export class MyModel extends Module { forward(batch: Batch): Loss { ... } }`,
  ],
  [
    "no forward",
    { text: 'import { Module } from "ithaca/nn";\nexport class Tiny extends Module {}\n' },
    `
tiny.ts:2:14: Tiny has no forward
  1 | import { Module } from "ithaca/nn";
> 2 | export class Tiny extends Module {}
    |              ^^^^
  3 |
  Write: forward(batch: Batch): Loss { ... }`,
  ],
  [
    "forward returns a tensor",
    {
      text: 'import { type Batch, Embedding, Module, type Tensor } from "ithaca/nn";\nexport class Tiny extends Module {\n  embed = new Embedding(4, 4);\n  forward({ input_ids }: Batch): Tensor {\n    return this.embed.forward(input_ids);\n  }\n}\n',
    },
    `
tiny.ts:4:3: forward must return the loss, and returns a tensor f32[1, 4, 4]
  3 |   embed = new Embedding(4, 4);
> 4 |   forward({ input_ids }: Batch): Tensor {
    |   ^^^^^^^
  5 |     return this.embed.forward(input_ids);
  Return cross_entropy(logits, labels), or { sum, count } with sum: f32[] and count: i32[].`,
  ],
  // the configuration
  [
    "a key that is missing, as a size",
    { build: "new Linear(config.widht, 2);" },
    `
tiny.ts:9:5: size 1 of a parameter is missing: config has no "widht"
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     new Linear(config.widht, 2);
     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }
  Did you mean "width"?`,
  ],
  [
    "a key that is missing, in arithmetic",
    { build: "const half = config.hidden_size / 2;" },
    `
tiny.ts:9:18: the left side of / must be a number, but config has no "hidden_size"
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const half = config.hidden_size / 2;
     |                  ^^^^^^^^^^^^^^^^^^
  10 |   }
  The keys of config are width, depth, vocab.`,
  ],
  [
    "a section that is missing",
    { build: "const theta = config.rope.theta;" },
    `
tiny.ts:9:31: "theta" can't be read: config has no "rope"
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     const theta = config.rope.theta;
     |                               ^^^^^
  10 |   }
  The keys of config are width, depth, vocab.`,
  ],
  [
    "what the definition itself refuses",
    { build: "if (config.width % 3 !== 0) throw new Error(`width ${config.width} is not a multiple of 3`);" },
    `
tiny.ts:9:33: width 8 is not a multiple of 3
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     if (config.width % 3 !== 0) throw new Error(\`width \${config.width} is not a multiple of 3\`);
     |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }`,
  ],
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
  10 |   }`,
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
  const text = "text" in source ? source.text : definition(source);
  expect(`\n${await refusal(lowered(text))}`).toBe(message);
});
