/** @file What a definition can get wrong about modules, parameters and the configuration, word for word. */
import { expect, test } from "vitest";
import { definition, lowered, type Parts, refusal } from "./lowering.ts";

type Source = Parts | { readonly text: string };

const table: readonly (readonly [what: string, source: Source, message: string])[] = [
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
  That is an input of every model.`,
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
    { build: "if (config.width % 3 !== 0) throw new Error(config.width + ' is not a multiple of 3');" },
    `
tiny.ts:9:33: 8 is not a multiple of 3
   8 |     this.head = new Linear(config.width, config.vocab, { bias: false });
>  9 |     if (config.width % 3 !== 0) throw new Error(config.width + ' is not a multiple of 3');
     |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  10 |   }`,
  ],
];

test.each(table)("%s", async (_, source, message) => {
  const text = "text" in source ? source.text : definition(source);
  expect(`\n${await refusal(lowered(text))}`).toBe(message);
});
