/** @file Reads .txt, .jsonl and .parquet files as a stream of documents, whatever their size. */
import { createReadStream, statSync } from "node:fs";
import { basename, extname } from "node:path";
import { createInterface } from "node:readline";
import * as zlib from "node:zlib";
import {
  asyncBufferFromFile,
  type Compressors,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { UserError } from "../ir/error.ts";

/** A stretch of a document's text. `read` is the fraction of the file that has been read, for progress. */
export interface TextPart {
  readonly text: string;
  readonly endsDocument: boolean;
  readonly read: number;
}

/** The documents of a file: a .txt is one, a .jsonl has one a line, a .parquet one a row. Throws UserError. */
export function readDocuments(path: string, textField: string): AsyncGenerator<TextPart> {
  switch (extname(path).toLowerCase()) {
    case ".txt":
      return readText(path);
    case ".jsonl":
      return readJsonLines(path, textField);
    case ".parquet":
      return readParquet(path, textField);
    default:
      throw new UserError(`${path} is none of .txt, .jsonl and .parquet`);
  }
}

async function* readText(path: string): AsyncGenerator<TextPart> {
  const size = statSync(path).size;
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let read = 0;
  for await (const block of createReadStream(path, { highWaterMark: 1 << 20 })) {
    yield { text: decode(decoder, block as Uint8Array, path, read), endsDocument: false, read: read / size };
    read += (block as Uint8Array).byteLength;
  }
  yield { text: decode(decoder, undefined, path, read), endsDocument: true, read: 1 };
}

function decode(
  decoder: InstanceType<typeof TextDecoder>,
  block: Uint8Array | undefined,
  path: string,
  offset: number,
): string {
  try {
    return block ? decoder.decode(block, { stream: true }) : decoder.decode();
  } catch {
    throw new UserError(`the file is not UTF-8 text (after byte ${offset})`, {
      location: path,
      remedy: `Convert it, for example: iconv -f latin1 -t utf-8 ${basename(path)}`,
    });
  }
}

async function* readJsonLines(path: string, textField: string): AsyncGenerator<TextPart> {
  const size = statSync(path).size;
  const stream = createReadStream(path, { encoding: "utf8", highWaterMark: 1 << 20 });
  let line = 0;
  for await (const text of createInterface({ input: stream, crlfDelay: Infinity })) {
    line += 1;
    if (text.trim() === "") continue;
    yield {
      text: fieldOfLine(text, textField, `${path}:${line}`),
      endsDocument: true,
      read: stream.bytesRead / size,
    };
  }
}

function fieldOfLine(line: string, field: string, location: string): string {
  let record: unknown;
  try {
    record = JSON.parse(line);
  } catch (error) {
    throw new UserError(`the line is not JSON: ${(error as Error).message}`, { location });
  }
  if (typeof record === "string") return record;
  const value =
    typeof record === "object" && record !== null ? (record as Record<string, unknown>)[field] : undefined;
  if (typeof value === "string") return value;
  const fields = typeof record === "object" && record !== null ? Object.keys(record) : [];
  throw new UserError(
    `${value === undefined ? `there is no field "${field}"` : `the field "${field}" is not a text`}; the fields are ` +
      `${fields.join(", ") || "none"}`,
    { location, remedy: "Name the field that has the text with text_field: in the configuration." },
  );
}

/** What Node can decompress besides hyparquet's own Snappy; Zstandard from Node 22.15 on. */
const { zstdDecompressSync } = zlib as { zstdDecompressSync?: (bytes: Uint8Array) => Uint8Array };
const compressors: Compressors = {
  GZIP: (bytes) => zlib.gunzipSync(bytes),
  BROTLI: (bytes) => zlib.brotliDecompressSync(bytes),
  ...(zstdDecompressSync && { ZSTD: zstdDecompressSync }),
};

async function* readParquet(path: string, column: string): AsyncGenerator<TextPart> {
  const file = await asyncBufferFromFile(path);
  const metadata = await parquetMetadataAsync(file).catch((error: Error) => {
    throw new UserError(`the file is not Parquet: ${error.message}`, { location: path });
  });
  const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
  if (!columns.includes(column)) {
    throw new UserError(`there is no column "${column}"; the columns are ${columns.join(", ")}`, {
      location: path,
      remedy: "Name the column that has the text with text_field: in the configuration.",
    });
  }
  let row = 0;
  const total = Number(metadata.num_rows);
  for (const group of metadata.row_groups) {
    const rowEnd = row + Number(group.num_rows);
    const rows = await parquetReadObjects({
      file,
      metadata,
      compressors,
      columns: [column],
      rowStart: row,
      rowEnd,
    }).catch((error: Error) => {
      throw new UserError(`rows ${row} to ${rowEnd - 1} can't be read: ${error.message}`, {
        location: path,
        ...(/codec/.test(error.message) && {
          remedy: "Zstandard needs Node 22.15 or later; Snappy, gzip and Brotli are read by all.",
        }),
      });
    });
    for (const record of rows) {
      const text: unknown = record[column];
      if (typeof text !== "string") {
        throw new UserError(`row ${row} of column "${column}" is not a text`, {
          location: path,
          remedy: "Name the column that has the text with text_field: in the configuration.",
        });
      }
      row += 1;
      yield { text, endsDocument: true, read: row / total };
    }
  }
}
