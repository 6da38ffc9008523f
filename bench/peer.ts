/** @file A training process that is stepped by lines on its standard input and answers with one JSON object a line. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";
import { z } from "zod";

const stepAnswer = z.object({ seconds: z.number(), loss: z.number() });

const memoryAnswer = z.object({
  /** Highest resident memory since resetPeak. */
  peak_rss_bytes: z.number(),
  /** Resident memory with everything imported, before the model. */
  baseline_rss_bytes: z.number(),
});

export type StepAnswer = z.output<typeof stepAnswer>;
export type MemoryAnswer = z.output<typeof memoryAnswer>;

/** One process, stepped one line at a time. Every method throws with the end of its standard error if it has died. */
export class Peer {
  readonly name: string;
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly lines: AsyncIterator<string>;
  private readonly reader: Interface;
  private complaints = "";

  private constructor(name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.name = name;
    this.child = spawn(command, args, { stdio: "pipe", env });
    this.child.stderr.on("data", (chunk: Buffer) => {
      this.complaints = (this.complaints + chunk.toString()).slice(-4000);
    });
    this.child.on("error", (error) => {
      this.complaints += `${error.message}\n`;
    });
    // A write to a process that has ended: the missing answer is what gets reported.
    this.child.stdin.on("error", () => {});
    this.reader = createInterface({ input: this.child.stdout });
    this.lines = this.reader[Symbol.asyncIterator]();
  }

  /** Starts the process and waits until it is ready to step. */
  static async start(
    name: string,
    command: string,
    args: readonly string[],
    env: NodeJS.ProcessEnv = process.env,
  ): Promise<Peer> {
    const peer = new Peer(name, command, args, env);
    z.object({ ready: z.literal(true) }).parse(await peer.answer());
    return peer;
  }

  /** One optimizer step. */
  async step(): Promise<StepAnswer> {
    return stepAnswer.parse(await this.ask("step"));
  }

  /** From here on the peak counts. */
  async resetPeak(): Promise<void> {
    await this.ask("reset-peak");
  }

  async quit(): Promise<MemoryAnswer> {
    const memory = memoryAnswer.parse(await this.ask("quit"));
    this.child.stdin.end();
    return memory;
  }

  /** Ends the process at once; nothing happens when it has ended already. */
  kill(): void {
    this.child.kill("SIGKILL");
  }

  private ask(command: string): Promise<unknown> {
    this.child.stdin.write(`${command}\n`);
    return this.answer();
  }

  private async answer(): Promise<unknown> {
    const { value, done } = await this.lines.next();
    if (done) {
      throw new Error(
        `${this.name} ended before it answered:\n${this.complaints.trim() || "(nothing on standard error)"}`,
      );
    }
    return JSON.parse(value);
  }
}
