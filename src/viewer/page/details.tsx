/** @file What is known of the value that was picked: its node, its cost, its line, its steps and its memory. */
import { useMemo } from "preact/hooks";
import type { ViewData, ViewNode } from "../view-data.ts";
import { kindOfOp } from "../op-kind.ts";
import { printBytes, printCount, printSeconds } from "../../ir/units.ts";
import type { Pick } from "./pick.ts";

interface DetailsProps {
  readonly data: ViewData;
  readonly stage: number;
  readonly pick: Pick | null;
  readonly onPick: (pick: Pick) => void;
}

/** The node that makes a value in a stage. */
function makerOf(data: ViewData, stage: number, name: string): { node: ViewNode; where: string } | null {
  for (const { nodes, title } of data.stages[stage]?.blocks ?? []) {
    const node = nodes.find(({ results }) => results.some((result) => result.name === name));
    if (node) return { node, where: title };
  }
  return null;
}

export function Details({ data, stage, pick, onPick }: DetailsProps) {
  const known = useMemo(() => {
    if (pick === null) return null;
    const weight = data.modules.find(({ name }) => name === pick);
    return {
      weight,
      made: makerOf(data, stage, pick),
      steps: data.plan.steps.map((step, index) => ({ step, index })).filter(({ step }) => step.name === pick),
      buffers: data.plan.buffers.filter(({ name }) => name === pick),
    };
  }, [data, stage, pick]);
  if (!known) return <p class="hint">Pick a node, a step or a buffer. Arrows change the pass, 1 to 4 the look, / searches.</p>;
  const { made, steps, buffers, weight } = known;
  return (
    <section class="details">
      <h2>%{pick}</h2>
      {weight && <p>weight {weight.type}</p>}
      {made && (
        <>
          <p>
            <i class={`dot ${kindOfOp(made.node.op)}`} /> <b>{made.node.op}</b> {made.node.attrs}
          </p>
          <dl>
            {made.node.results.map(({ name, type }) => (
              <Row key={name} term={`%${name}`} text={type} />
            ))}
            <Row term="in" text={made.where} />
            {made.node.loc !== "" && <Row term="line" text={made.node.loc} />}
            <Row term="cost" text={`${printCount(made.node.flops, "FLOP")}, ${printBytes(made.node.bytes)} moved`} />
          </dl>
          <h3>reads</h3>
          <p class="names">
            {made.node.operands.map((name) => (
              <button type="button" key={name} onClick={() => onPick(name)}>
                %{name}
              </button>
            ))}
          </p>
          {made.node.body.length > 0 && <pre class="body">{made.node.body.join("\n")}</pre>}
        </>
      )}
      <h3>in the schedule</h3>
      {steps.length === 0 && <p class="hint">It is no step of its own: folded into another one, or a name of another stage.</p>}
      <dl>
        {steps.slice(0, 12).map(({ step, index }) => (
          <Row key={index} term={`step ${index}`} text={`${step.lane}, ${printSeconds(step.end - step.begin)} from ${printSeconds(step.begin)}`} />
        ))}
      </dl>
      <h3>in memory</h3>
      {buffers.length === 0 && <p class="hint">It has no buffer of its own.</p>}
      <dl>
        {buffers.slice(0, 12).map((buffer) => (
          <Row
            key={`${buffer.offset} ${buffer.first}`}
            term={printBytes(buffer.bytes)}
            text={`${buffer.kind}, ${buffer.memory} + ${buffer.offset}, steps ${buffer.first} to ${buffer.last}`}
          />
        ))}
      </dl>
    </section>
  );
}

function Row({ term, text }: { term: string; text: string }) {
  return (
    <>
      <dt>{term}</dt>
      <dd>{text}</dd>
    </>
  );
}
