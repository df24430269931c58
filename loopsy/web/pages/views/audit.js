// The audit log: who asked this machine for what, the newest first; more is fetched as one goes down.
import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ask } from "../net.js";
import { Act, Badge, bytes, Code, Empty, Failure, Field, html, lasting, Table, Time } from "../ui.js";

const PAGE = 100;
const LOOKS = 10; // pages that are looked through for one that has a line to show
const HEADS = ["When", "Who", "What", "Outcome", "Took", "In / out"];

function What({ line }) {
  const what = line.what || {};
  const said = what.command || what.key || what.file || "";
  return html`<${Code}>${line.method} ${line.path}<//>${said && html`<div class="line mono" title=${said}>${said}</div>`}`;
}

function Outcome({ line }) {
  const kind = line.status < 300 ? "good" : line.status < 400 ? "plain" : line.status === 499 ? "dim" : "bad";
  const exit = line.what?.exit;
  return html`<${Badge} kind=${kind}>${line.status}<//>${line.code ? html` <small>${line.code}</small>` : ""}${exit !== undefined ? html` <small>exit ${exit}</small>` : ""}`;
}

const cells = (line) => [
  html`<${Time} at=${line.time} />`, html`${line.who} <small>${line.from}</small>`, html`<${What} line=${line} />`,
  html`<${Outcome} line=${line} />`, lasting(line.ms), `${bytes(line.in)} / ${bytes(line.out)}`,
];
// This page reads something at every change, and so do commands and agents: that would bury all else.
const isOwnReading = (line) => ["GET", "HEAD"].includes(line.method) && /^(127\.|::1)/.test(line.from || "") && ["local", "stranger"].includes(line.who) && (line.status < 400 || line.status === 499);

export default function Audit() {
  const [lines, setLines] = useState(null);
  const [word, setWord] = useState("");
  const [all, setAll] = useState(false);
  const [error, setError] = useState(null);
  const [older, setOlder] = useState(null); // the number before which more is to be had
  const asked = useRef(0); // an answer that comes after a newer question is thrown away
  const page = async (before) => {
    for (let look = 0, found = []; ; look += 1) {
      const limit = all ? PAGE : PAGE * 10;
      const { lines: more } = await ask("GET", `/audit?limit=${limit}&word=${encodeURIComponent(word)}${before ? `&before=${before}` : ""}`);
      found = found.concat(all ? more : more.filter((line) => !isOwnReading(line)));
      before = more.length === limit ? more[more.length - 1].seq : null;
      if (!before || found.length >= PAGE || look === LOOKS) return [found, before];
    }
  };
  const load = async (before) => {
    const number = (asked.current += 1);
    const [found, next] = await page(before);
    if (number !== asked.current) return;
    setOlder(next);
    setLines((old) => (before ? [...old, ...found] : found));
  };
  useEffect(() => {
    const timer = setTimeout(() => load(null).then(() => setError(null), setError), word ? 300 : 0);
    return () => clearTimeout(timer);
  }, [word, all]);
  return html`<div class="spread"><h1>Audit</h1><${Act} act=${() => load(null)}>Look again<//></div>
    <div class="card"><${Field} label="Only lines that hold" hint="A peer’s name, a path, a command, a key"><input type="search" value=${word} onInput=${(event) => setWord(event.target.value)} /><//>
      <label class="tick"><input type="checkbox" checked=${all} onChange=${() => setAll(!all)} /><span>Also what this page, commands and agents here only read</span></label></div>
    <${Failure} error=${error} />
    ${lines && !lines.length && html`<${Empty}>${word ? "Nothing fits." : "Nothing was asked of this machine yet."}<//>`}
    ${lines?.length > 0 && html`<${Table} label="Audit log" heads=${HEADS} rows=${lines.map((line) => ({ key: line.seq, cells: cells(line) }))} />`}
    ${older && html`<p><${Act} act=${() => load(older)}>Older lines<//></p>`}
    ${lines && html`<p class="dim"><code>loopsy logs --verify</code> checks that no line was changed or removed.</p>`}`;
}
