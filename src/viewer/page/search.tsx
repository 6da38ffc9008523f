/** @file The tree of modules, and the search that stands over it. */
import type { RefObject } from "preact";
import type { ViewData } from "../view-data.ts";
import { kindOfOp } from "../op-kind.ts";
import { type Pick } from "./pick.ts";

interface Match {
  readonly name: string;
  readonly op: string;
  readonly where: string;
}

const MOST_MATCHES = 200;

/** Values of the stage whose name, op or line has the words of the query in it. */
export function matchesOf(data: ViewData, stage: number, query: string): Match[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const found: Match[] = [];
  for (const block of data.stages[stage]?.blocks ?? []) {
    for (const node of block.nodes) {
      const name = node.results[0]?.name ?? "";
      const text = `${name} ${node.op} ${node.attrs} ${node.loc} ${block.title}`.toLowerCase();
      if (words.every((word) => text.includes(word))) found.push({ name, op: node.op, where: block.title });
      if (found.length === MOST_MATCHES) return found;
    }
  }
  return found;
}

interface SearchProps {
  readonly input: RefObject<HTMLInputElement | null>;
  readonly query: string;
  readonly onQuery: (query: string) => void;
}

export function Search({ input, query, onQuery }: SearchProps) {
  return (
    <input
      ref={input as RefObject<HTMLInputElement>}
      type="search"
      placeholder="search names, ops, lines  ( / )"
      value={query}
      onInput={(event) => onQuery(event.currentTarget.value)}
    />
  );
}

interface ModulesProps {
  readonly data: ViewData;
  readonly query: string;
  readonly matches: readonly Match[];
  readonly pick: Pick | null;
  readonly onPick: (pick: Pick) => void;
}

export function Modules({ data, query, matches, pick, onPick }: ModulesProps) {
  if (query !== "") {
    return (
      <ul class="matches">
        {matches.map(({ name, op, where }) => (
          <li key={`${where} ${name}`}>
            <button type="button" class={name === pick ? "on" : ""} onClick={() => onPick(name)}>
              <i class={`dot ${kindOfOp(op)}`} /> <b>%{name}</b> {op} <small>{where}</small>
            </button>
          </li>
        ))}
        {matches.length === 0 && <li class="none">nothing has that in it</li>}
      </ul>
    );
  }
  return <Branch tree={treeOf(data.modules)} path="" pick={pick} onPick={onPick} isOpen />;
}

interface Tree {
  readonly children: Map<string, Tree>;
  type: string;
}

function treeOf(modules: ViewData["modules"]): Tree {
  const root: Tree = { children: new Map(), type: "" };
  for (const { name, type } of modules) {
    let at = root;
    for (const part of name.split(".")) {
      if (!at.children.has(part)) at.children.set(part, { children: new Map(), type: "" });
      at = at.children.get(part) as Tree;
    }
    at.type = type;
  }
  return root;
}

interface BranchProps extends Omit<ModulesProps, "data" | "query" | "matches"> {
  readonly tree: Tree;
  readonly path: string;
  readonly isOpen: boolean;
}

function Branch({ tree, path, isOpen, ...rest }: BranchProps) {
  return (
    <ul class="modules">
      {[...tree.children].map(([name, child]) => {
        const full = path === "" ? name : `${path}.${name}`;
        if (child.children.size > 0)
          return (
            <li key={name}>
              <details open={isOpen}>
                <summary>{name}</summary>
                <Branch tree={child} path={full} isOpen={!/^\d+$/.test(name) && tree.children.size < 6} {...rest} />
              </details>
            </li>
          );
        return (
          <li key={name}>
            <button type="button" class={full === rest.pick ? "on" : ""} onClick={() => rest.onPick(full)}>
              {name} <small>{child.type}</small>
            </button>
          </li>
        );
      })}
    </ul>
  );
}
