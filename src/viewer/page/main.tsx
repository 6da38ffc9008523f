/** @file The page of `ithaca view`: four looks at one compilation, a search, and what is known of the thing picked. */
import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { ViewData } from "../view-data.ts";
import { Details } from "./details.tsx";
import { GraphLook } from "./graph-look.tsx";
import { LanesLook } from "./lanes-look.tsx";
import { MemoryLook } from "./memory-look.tsx";
import { PassesLook } from "./passes-look.tsx";
import { Modules, matchesOf, Search } from "./search.tsx";
import type { Pick } from "./pick.ts";
import "./style.css";

const looks = ["graph", "passes", "memory", "lanes"] as const;
type Look = (typeof looks)[number];

function Page({ data }: { data: ViewData }) {
  const [look, setLook] = useState<Look>("graph");
  const [stage, setStage] = useState(data.stages.length - 1);
  const [pick, setPick] = useState<Pick | null>(null);
  const [query, setQuery] = useState("");
  const search = useRef<HTMLInputElement>(null);
  const matches = useMemo(() => matchesOf(data, stage, query), [data, stage, query]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLInputElement;
      if (event.key === "Escape") {
        setQuery("");
        setPick(null);
        search.current?.blur();
      } else if (isTyping) return;
      else if (event.key === "/") {
        event.preventDefault();
        search.current?.focus();
      } else if (/^[1-4]$/.test(event.key)) setLook(looks[Number(event.key) - 1] as Look);
      else if (event.key === "ArrowRight") setStage((own) => Math.min(own + 1, data.stages.length - 1));
      else if (event.key === "ArrowLeft") setStage((own) => Math.max(own - 1, 0));
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [data]);

  const shared = { data, pick, onPick: setPick };
  return (
    <>
      <header>
        <h1>{data.title}</h1>
        <p>{data.about}</p>
        <nav>
          {looks.map((name, i) => (
            <button type="button" key={name} class={name === look ? "on" : ""} onClick={() => setLook(name)}>
              {name} <kbd>{i + 1}</kbd>
            </button>
          ))}
        </nav>
        <Search input={search} query={query} onQuery={setQuery} />
      </header>
      <aside class="left">
        <Modules data={data} query={query} matches={matches} pick={pick} onPick={setPick} />
      </aside>
      <main>
        {look === "graph" && <GraphLook {...shared} stage={stage} onStage={setStage} />}
        {look === "passes" && <PassesLook data={data} stage={stage} onStage={setStage} />}
        {look === "memory" && <MemoryLook {...shared} />}
        {look === "lanes" && <LanesLook {...shared} />}
      </main>
      <aside class="right">
        <Details {...shared} stage={stage} />
      </aside>
    </>
  );
}

const data = JSON.parse(document.getElementById("data")?.textContent ?? "null") as ViewData | null;
const app = document.getElementById("app") as HTMLElement;
if (data) {
  document.title = `${data.title} - Ithaca`;
  render(<Page data={data} />, app);
} else {
  app.textContent = "This page is filled by `ithaca view config.yaml`.";
}
