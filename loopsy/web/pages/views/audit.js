// The audit log: who asked this machine for what, the newest first; more is fetched as one goes down.
import { useEffect, useState } from "../vendor/preact.js";
import { ask } from "../net.js";
import { Act, Badge, bytes, Code, Empty, Failure, Field, html, lasting, Time } from "../ui.js";

const PAGE = 100;

function What({ line }) {
  const what = line.what || {};
  const said = what.command || what.key || what.file || what.path || "";
  return html`<${Code}>${line.method} ${line.path}<//>${said && html`<div class="line mono" title=${said}>${said}</div>`}`;
}

function Outcome({ line }) {
  const kind = line.status < 300 ? "good" : line.status < 400 ? "plain" : line.status === 499 ? "dim" : "bad";
  const exit = line.what?.exit;
  return html`<${Badge} kind=${kind}>${line.status}<//>${line.code ? html` <small>${line.code}</small>` : ""}${exit !== undefined ? html` <small>exit ${exit}</small>` : ""}`;
}

export default function Audit() {
  const [lines, setLines] = useState(null);
  const [word, setWord] = useState("");
  const [error, setError] = useState(null);
  const [more, setMore] = useState(true);
  const page = (before) => ask("GET", `/audit?limit=${PAGE}&word=${encodeURIComponent(word)}${before ? `&before=${before}` : ""}`);
  const load = async (before) => {
    const found = await page(before);
    setMore(found.lines.length === PAGE);
    setLines((old) => (before ? [...old, ...found.lines] : found.lines));
  };
  useEffect(() => {
    const timer = setTimeout(() => load(null).then(() => setError(null), setError), word ? 300 : 0);
    return () => clearTimeout(timer);
  }, [word]);
  return html`<div class="spread"><h1>Audit</h1><${Act} act=${() => load(null)}>Look again<//></div>
    <div class="card"><${Field} label="Only lines that hold" hint="A peer’s name, a path, a command, a key"><input type="search" value=${word} onInput=${(event) => setWord(event.target.value)} /><//></div>
    <${Failure} error=${error} />
    ${lines && !lines.length && html`<${Empty}>${word ? "Nothing fits." : "Nothing was asked of this machine yet."}<//>`}
    ${lines?.length > 0 && html`<div class="card scroll"><table><thead><tr><th>When</th><th>Who</th><th>What</th><th>Outcome</th><th>Took</th><th>In / out</th></tr></thead><tbody>
      ${lines.map((line) => html`<tr key=${line.seq}><td><${Time} at=${line.time} /></td><td>${line.who}<br /><small>${line.from}</small></td><td><${What} line=${line} /></td>
        <td><${Outcome} line=${line} /></td><td>${lasting(line.ms)}</td><td>${bytes(line.in)} / ${bytes(line.out)}</td></tr>`)}</tbody></table></div>
      <p class="dim">“loopsy logs --verify” checks that no line was changed or removed.</p>
      ${more && html`<${Act} act=${() => load(lines[lines.length - 1].seq)}>Older lines<//>`}`}`;
}
