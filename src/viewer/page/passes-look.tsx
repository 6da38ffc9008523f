/** @file The passes as steps, and what each of them changed. */
import type { ViewData } from "../view-data.ts";

interface PassesProps {
  readonly data: ViewData;
  readonly stage: number;
  readonly onStage: (stage: number) => void;
}

function classOf(line: string): string {
  if (line.startsWith("@@")) return "hunk";
  if (line.startsWith("+++") || line.startsWith("---")) return "file";
  if (line.startsWith("+")) return "added";
  return line.startsWith("-") ? "removed" : "";
}

export function PassesLook({ data, stage, onStage }: PassesProps) {
  const own = data.stages[stage];
  return (
    <section class="passes">
      <ol>
        {data.stages.map(({ pass, nodes, milliseconds, diff }, i) => (
          <li key={pass}>
            <button type="button" class={i === stage ? "on" : ""} onClick={() => onStage(i)}>
              <b>{pass}</b>
              <small>
                {nodes} nodes, {milliseconds.toFixed(0)} ms{diff.length === 0 && i > 0 ? ", no change" : ""}
              </small>
            </button>
          </li>
        ))}
      </ol>
      <div>
        <p>
          <b>{own.pass}</b> {own.summary}
        </p>
        <pre>
          {own.diff.map((line, i) => (
            <div key={i} class={classOf(line)}>
              {line}
            </div>
          ))}
          {own.diff.length === 0 && "It changed nothing."}
        </pre>
      </div>
    </section>
  );
}
