/** @file The data of a run as a file of token ids: text is tokenised once and kept, .bin files are used as they are. */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, openSync, readSync } from "node:fs";
import { type FileHandle, mkdir, open, readFile, writeFile } from "node:fs/promises";
import { dirname, extname, join } from "node:path";
import { cacheDir, makeOnce, prune } from "../cache.ts";
import { UserError } from "../ir/error.ts";
import { readDocuments } from "./documents.ts";
import { documentsBeside } from "./has-documents.ts";
import { DocumentEncoder, loadTokenizer } from "./tokenize.ts";

export interface PreparedData {
  /** Token ids, one after the other, little endian. */
  readonly tokens: string;
  readonly dtype: "uint16" | "uint32";
  /** uint64 start of every document in `tokens`; null: the file is one document. */
  readonly documents: string | null;
}

export interface DataSource {
  /** .bin, .txt, .jsonl or .parquet */
  readonly data: string;
  /** Needed for text. */
  readonly tokenizer: string | null;
  readonly text_field: string;
  /** Tokens that there must be at least; any number will do where it isn't given. */
  readonly sequence_length?: number;
}

/** Told the fraction that is done while text is tokenised. */
export type Progress = (done: number) => void;

/** Changes whenever the same text would be written differently. */
const formatVersion = "1";

/** `vocabSize` is the model's, undefined where it isn't known. Throws UserError. */
export async function prepareData(
  source: DataSource,
  vocabSize: number | undefined,
  onProgress: Progress = () => {},
): Promise<PreparedData> {
  if (extname(source.data).toLowerCase() === ".bin") {
    const documents = documentsBeside(source.data);
    return {
      tokens: source.data,
      dtype: tokenType(source.data, vocabSize),
      documents: existsSync(documents) ? documents : null,
    };
  }
  if (source.tokenizer === null)
    throw new UserError(`${source.data} is text, and there is no tokenizer for it`);
  const folder = join(cacheDir(), "tokens", await contentKey(source, source.tokenizer));
  await makeOnce(folder, (temporary) => tokenise(source, source.tokenizer as string, temporary, onProgress));
  await prune(join(cacheDir(), "tokens"), 20);
  const summary = JSON.parse(await readFile(join(folder, "summary.json"), "utf8")) as Summary;
  if (summary.tokens < (source.sequence_length ?? 0)) {
    throw new UserError(`the text has ${summary.tokens} tokens, a sample needs ${source.sequence_length}`, {
      location: source.data,
      remedy: "Add data or lower sequence_length.",
    });
  }
  if (vocabSize !== undefined && summary.largest_id >= vocabSize) {
    throw new UserError(
      `the tokenizer gives ids up to ${summary.largest_id}, the model's vocabulary has ${vocabSize}`,
      { location: source.tokenizer, remedy: "Use the tokenizer that belongs to the model." },
    );
  }
  return { tokens: join(folder, "tokens.bin"), dtype: "uint32", documents: join(folder, "tokens.docs.bin") };
}

interface Summary {
  readonly tokens: number;
  readonly documents: number;
  readonly largest_id: number;
}

async function tokenise(
  source: DataSource,
  tokenizer: string,
  folder: string,
  onProgress: Progress,
): Promise<void> {
  const loaded = loadTokenizer(tokenizer);
  const encoder = new DocumentEncoder(loaded.tokenizer, loaded.endOfText);
  await mkdir(folder, { recursive: true });
  const file = await open(join(folder, "tokens.bin"), "w");
  try {
    const writer = new TokenWriter(file);
    const starts: bigint[] = [];
    let start = 0;
    for await (const part of readDocuments(source.data, source.text_field)) {
      for (const ids of encoder.push(part.text)) await writer.write(ids);
      if (part.endsDocument) {
        for (const ids of encoder.end()) await writer.write(ids);
        if (writer.count > start) starts.push(BigInt(start));
        start = writer.count;
      }
      onProgress(part.read);
    }
    await writer.flush();
    if (writer.count === 0) throw new UserError("there is no text in the file", { location: source.data });
    await writeFile(join(folder, "tokens.docs.bin"), BigUint64Array.from(starts));
    const summary: Summary = { tokens: writer.count, documents: starts.length, largest_id: writer.largest };
    await writeFile(join(folder, "summary.json"), `${JSON.stringify(summary)}\n`);
  } finally {
    await file.close();
  }
}

/** Collects ids and writes them as uint32 in blocks. */
class TokenWriter {
  count = 0;
  largest = -1;
  private readonly file: FileHandle;
  private readonly block = new Uint32Array(1 << 18);
  private used = 0;

  constructor(file: FileHandle) {
    this.file = file;
  }

  async write(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      if (this.used === this.block.length) await this.flush();
      this.block[this.used++] = id;
      if (id > this.largest) this.largest = id;
    }
    this.count += ids.length;
  }

  async flush(): Promise<void> {
    const bytes = new Uint8Array(this.block.buffer, 0, this.used * 4);
    for (let done = 0; done < bytes.length; ) done += (await this.file.write(bytes, done)).bytesWritten;
    this.used = 0;
  }
}

async function contentKey(source: DataSource, tokenizer: string): Promise<string> {
  const hash = createHash("sha256").update(
    `${formatVersion}\0${extname(source.data)}\0${source.text_field}\0`,
  );
  hash.update(await readFile(tokenizer));
  hash.update(await readFile(join(dirname(tokenizer), "tokenizer_config.json")).catch(() => ""));
  for await (const block of createReadStream(source.data, { highWaterMark: 1 << 20 }))
    hash.update(block as Uint8Array);
  return hash.digest("hex").slice(0, 32);
}

/**
 * Whether a .bin file has 16 or 32 bits a token. Read as 32 bits, pairs of 16 bit tokens are numbers far beyond the
 * vocabulary; read as 16 bits, tokens of 32 have a high half that is nearly always zero. An unknown vocabulary is taken to be at most a million.
 */
export function tokenType(path: string, vocabSize = 2 ** 20): "uint16" | "uint32" {
  const sample = Buffer.alloc(1 << 18);
  const file = openSync(path, "r");
  const bytes = readSync(file, sample, 0, sample.length, 0);
  closeSync(file);
  const wide = new Uint32Array(sample.buffer, sample.byteOffset, bytes >> 2);
  const narrow = new Uint16Array(sample.buffer, sample.byteOffset, bytes >> 1);
  // Few ids beyond the vocabulary are a mistake in the data, and will be reported as such; many are another type.
  const beyond = (ids: ArrayLike<number>) => {
    let count = 0;
    for (let i = 0; i < ids.length; i++) if ((ids[i] as number) >= vocabSize) count += 1;
    return count / Math.max(1, ids.length);
  };
  const wideBeyond = bytes % 4 === 0 ? beyond(wide) : 1;
  const zeros = narrow.reduce((count, id, i) => count + (i % 2 === 1 && id === 0 ? 1 : 0), 0);
  return wideBeyond > 0.5 && beyond(narrow) < wideBeyond && zeros * 4 < narrow.length ? "uint16" : "uint32";
}
