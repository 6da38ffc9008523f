/** @file The time that all checks on a GPU have together, and how each is run within it. */
import type { Check } from "./report.ts";

/** What a check found; a check that throws has failed. */
export interface Finding {
  readonly outcome: Check["outcome"];
  readonly detail: string;
}

export class Budget {
  private readonly end: number;

  constructor(seconds: number) {
    this.end = performance.now() + 1000 * seconds;
  }

  /** Seconds that are left, at least 0. */
  left(): number {
    return Math.max(0, (this.end - performance.now()) / 1000);
  }

  /** What `work` gives, unless `seconds` or the rest of the budget pass first: then it throws. `stop` ends the work. */
  async within<T>(seconds: number, work: Promise<T>, stop: () => void = () => {}): Promise<T> {
    const limit = Math.min(seconds, this.left());
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`took longer than ${limit.toFixed(0)} s`)), 1000 * limit);
    });
    try {
      return await Promise.race([work, late]);
    } catch (error) {
      stop();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Runs a check that needs at least `least` seconds; one that the budget has no room for is not run. */
export async function runCheck(
  budget: Budget,
  name: string,
  least: number,
  work: () => Promise<Finding>,
): Promise<Check> {
  if (budget.left() < least) {
    return {
      name,
      outcome: "not run",
      detail: `${least} s are needed, ${budget.left().toFixed(0)} were left`,
      seconds: 0,
    };
  }
  const begin = performance.now();
  const finding = await work().catch(
    (error: unknown): Finding => ({
      outcome: "failed",
      detail: (error instanceof Error ? error.message : String(error)).slice(-2000),
    }),
  );
  return { name, ...finding, seconds: (performance.now() - begin) / 1000 };
}
