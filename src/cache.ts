/** @file Products kept by the hash of what they are made from; safe for several processes at once. */
import { randomInt } from "node:crypto";
import {
  copyFile,
  link,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** $ITHACA_CACHE, else ithaca/ in $XDG_CACHE_HOME or ~/.cache. */
export function cacheDir(): string {
  const { ITHACA_CACHE, XDG_CACHE_HOME } = process.env;
  if (ITHACA_CACHE) return ITHACA_CACHE;
  return join(XDG_CACHE_HOME || join(homedir(), ".cache"), "ithaca");
}

/** A maker that has not finished after this long has been killed on another machine, or is stuck. */
const staleAfterMs = 15 * 60_000;

/** Process numbers repeat themselves on other machines, with which a file system may be shared. */
let temporaries = randomInt(2 ** 40);

/** A name beside `path`, in the same file system, that no other process uses. */
export function temporaryName(path: string): string {
  temporaries += 1;
  return `${path}.${process.pid}.${temporaries}.tmp`;
}

/**
 * Makes `product` unless it is there. `make` writes a file or a folder under the name it is given, which then takes
 * its place by one rename: nobody ever sees half of it. Of several processes that want the same product one
 * makes it and the others wait. Returns whether this call made it.
 */
export async function makeOnce(
  product: string,
  make: (temporary: string) => Promise<void>,
): Promise<boolean> {
  await mkdir(dirname(product), { recursive: true });
  const lock = `${product}.lock`;
  for (;;) {
    if (await touch(product)) return false;
    if (await acquire(lock)) break;
    await sleep(50);
  }
  try {
    if (await touch(product)) return false;
    const temporary = temporaryName(product);
    try {
      await make(temporary);
      // Another machine may not have seen the lock, and put the same product there.
      await rename(temporary, product).catch(async (error) => {
        if (!(await exists(product))) throw error;
      });
    } finally {
      await rm(temporary, { recursive: true, force: true });
    }
    return true;
  } finally {
    await rm(lock, { force: true });
  }
}

/** Marks a product as used now, for `prune`. False if it isn't there. */
export async function touch(product: string): Promise<boolean> {
  const now = new Date();
  try {
    await utimes(product, now, now);
    return true;
  } catch (error) {
    // A cache that another user owns can be read without being touched.
    return !isErrno(error, "ENOENT") && (await exists(product));
  }
}

async function acquire(lock: string): Promise<boolean> {
  try {
    const file = await open(lock, "wx");
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
  // Removing a lock that another waiter has just renewed only costs making the product twice.
  if (await isStale(lock)) await rm(lock, { force: true });
  return false;
}

async function isStale(lock: string): Promise<boolean> {
  try {
    const [{ mtimeMs }, text] = await Promise.all([stat(lock), readFile(lock, "utf8")]);
    if (Date.now() - mtimeMs > staleAfterMs) return true;
    return text !== "" && !isAlive(Number(text));
  } catch {
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isErrno(error, "EPERM");
  }
}

/** Removes all but the `keep` most recently used entries of a folder; never one used within the last hour. */
export async function prune(folder: string, keep: number): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  if (names.length <= keep) return;
  const entries = await Promise.all(
    names.map(async (name) => ({ name, time: await lastUsed(join(folder, name)) })),
  );
  entries.sort((a, b) => b.time - a.time);
  const hourAgo = Date.now() - 3_600_000;
  for (const { name, time } of entries.slice(keep)) {
    if (time < hourAgo) await rm(join(folder, name), { recursive: true, force: true });
  }
}

/** When an entry was used, in milliseconds; for the folder around a product, when the product was. 0 if it isn't there. */
async function lastUsed(path: string): Promise<number> {
  const within = await readdir(path).catch(() => []);
  const times = [path, ...within.map((name) => join(path, name))].map(
    async (each) => (await stat(each).catch(() => undefined))?.mtimeMs ?? 0,
  );
  return Math.max(...(await Promise.all(times)));
}

/** Puts a product of the cache at `path`, replacing what is there in one step. */
export async function place(product: string, path: string): Promise<void> {
  const temporary = temporaryName(path);
  try {
    await link(product, temporary).catch(() => copyFile(product, temporary));
    await rename(temporary, path);
  } finally {
    // rename() leaves both names when they already are the same file.
    await rm(temporary, { force: true });
  }
}

/** Writes a file that nobody ever sees half of. */
export async function writeWhole(path: string, text: string): Promise<void> {
  const temporary = temporaryName(path);
  try {
    await writeFile(temporary, text);
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
