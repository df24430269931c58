// The context store of any machine: browse, filter, edit; lifetimes tick.
import { useMemo, useState } from "../vendor/preact.js";
import { ask, useResource } from "../net.js";
import { Act, bytes, Dialog, Empty, Field, go, html, lasting, Loading, Long, Machine, tell, Time, useNow } from "../ui.js";

const entryPath = (key) => `/context/${encodeURIComponent(key)}`;

function Life({ entry }) {
  const now = useNow();
  if (!entry.expiresAt) return html`<span class="dim">stays</span>`;
  const left = entry.expiresAt - now;
  return left > 0 ? html`<span title=${new Date(entry.expiresAt).toLocaleString()}>${lasting(left)} left</span>` : html`<span class="dim">expired</span>`;
}

function Edit({ entry, peer, onClose, reload }) {
  const [key, setKey] = useState(entry?.key || "");
  const [value, setValue] = useState(entry?.value ?? "");
  const [ttl, setTtl] = useState("");
  const save = async () => {
    const seconds = Number(ttl);
    await ask("PUT", entryPath(key), { value, ...(seconds > 0 ? { ttl: seconds } : {}) }, { peer });
    tell(`${key} is set`, "good");
    reload();
    onClose();
  };
  const remove = async () => {
    await ask("DELETE", entryPath(key), undefined, { peer });
    tell(`${key} is gone`, "good");
    reload();
    onClose();
  };
  return html`<${Dialog} title=${entry ? "Edit a value" : "Set a value"} onClose=${onClose}><form onSubmit=${(event) => event.preventDefault()}>
    <${Field} label="Key"><input value=${key} disabled=${!!entry} onInput=${(event) => setKey(event.target.value)} /><//>
    <${Field} label="Value"><textarea class="mono" rows="8" value=${value} onInput=${(event) => setValue(event.target.value)}></textarea><//>
    <${Field} label="Lifetime in seconds" hint="Empty: it stays until it is deleted"><input inputmode="numeric" value=${ttl} onInput=${(event) => setTtl(event.target.value)} /><//>
    ${entry && html`<p class="dim">Set by ${entry.fromNodeId}, changed <${Time} at=${entry.updatedAt} /></p>`}
    <footer>${entry && html`<${Act} kind="danger" sure=${`Delete ${entry.key}?`} act=${remove}>Delete<//>`}
      <${Act} kind="primary" disabled=${!key} act=${save}>Save<//></footer></form><//>`;
}

export default function Context({ place }) {
  const peer = place.query.get("on");
  const [filter, setFilter] = useState("");
  const [open, setOpen] = useState(null);
  const context = useResource("/context", ["context"], peer);
  const now = useNow();
  const found = useMemo(() => {
    const wanted = filter.toLowerCase();
    return (context.data?.entries || []).filter((entry) => entry.key.toLowerCase().includes(wanted) || entry.value.toLowerCase().includes(wanted));
  }, [filter, context.data]);
  const entries = found.filter((entry) => !entry.expiresAt || entry.expiresAt > now); // the daemon strikes them a little later
  return html`<div class="spread"><h1>Context</h1><button type="button" class="primary" onClick=${() => setOpen({})}>Set a value</button></div>
    <div class="row card"><div class="grow"><${Machine} value=${peer} onChange=${(on) => go("context", [], { on })} /></div>
      <div class="grow"><${Field} label="Filter by key or value"><input type="search" value=${filter} onInput=${(event) => setFilter(event.target.value)} /><//></div>
      <span class="dim">${entries.length} of ${context.data?.entries.length || 0}</span></div>
    <${Loading} of=${context}>${entries.length ? html`<${Long} label="Entries" height=${56} items=${entries} row=${(entry) => html`<div class="two">
        <button type="button" class="quiet entry" onClick=${() => setOpen(entry)}><strong>${entry.key}</strong>
          <span class="line mono">${entry.value.slice(0, 300)}</span></button>
        <small class="row"><span>${bytes(new Blob([entry.value]).size)}</span><${Life} entry=${entry} /></small></div>`} />`
      : html`<${Empty}>${context.data?.entries.length ? "Nothing fits the filter." : "Nothing is shared yet. Agents and people set values here that all may read."}<//>`}<//>
    ${open && html`<${Edit} entry=${open.key ? open : null} peer=${peer} reload=${context.reload} onClose=${() => setOpen(null)} />`}`;
}
