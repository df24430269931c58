// Machines that are known: trust, pins and scopes; adding, pairing with a code and a number, rotating, revoking.
import { useEffect, useState } from "../vendor/preact.js";
import { ask, useResource } from "../net.js";
import { Act, Badge, Dialog, Empty, Failure, Field, html, Loading, State, Table, tell, Time, useNow } from "../ui.js";

const SCOPES = {
  execute: "run commands", transfer: "read and write files", context: "the context store", messages: "send messages",
  "ai-tasks": "start AI tasks", terminal: "open terminals", approve: "approve what its own tasks ask",
};

function Scopes({ peer, onDone }) {
  const [chosen, choose] = useState(new Set(peer.scopes || []));
  const toggle = (scope) => {
    const next = new Set(chosen);
    if (!next.delete(scope)) next.add(scope);
    choose(next);
  };
  const save = async () => {
    await ask("PUT", `/trust/${encodeURIComponent(peer.name)}/scopes`, { scopes: [...chosen] });
    tell(`${peer.name} may now: ${[...chosen].join(", ") || "nothing"}`, "good");
    onDone();
  };
  return html`<fieldset><legend>What ${peer.name} may do here</legend>
    ${Object.entries(SCOPES).map(([scope, words]) => html`<label class="tick"><input type="checkbox" checked=${chosen.has(scope)} onChange=${() => toggle(scope)} />
      <span>${words} <small>${scope}</small></span></label>`)}
    <${Act} act=${save}>Save<//></fieldset>`;
}

function Peer({ peer, onClose, reload }) {
  const name = encodeURIComponent(peer.name || peer.nodeId);
  const done = (word) => () => { tell(word, "good"); reload(); onClose(); };
  return html`<${Dialog} title=${peer.name || peer.hostname} onClose=${onClose}>
    <dl><dt>Node id</dt><dd class="mono">${peer.nodeId}</dd><dt>Address</dt><dd>${peer.address}:${peer.port}</dd>
      <dt>Calls itself</dt><dd>${peer.hostname}</dd><dt>Platform</dt><dd>${peer.platform} · ${peer.version}</dd>
      <dt>Can</dt><dd>${peer.capabilities.join(", ") || "not known yet"}</dd>
      <dt>Status</dt><dd><${State} of=${peer.status} /> seen <${Time} at=${peer.lastSeen} /></dd>
      <dt>Certificate</dt><dd>${peer.pin ? html`<span class="mono">${peer.pin}</span> pinned <${Time} at=${peer.pinnedAt} />` : html`<${Badge} kind="bad">not pinned: plain HTTP<//>`}</dd>
      <dt>Key last used</dt><dd><${Time} at=${peer.lastUsed} /></dd></dl>
    ${peer.trusted && peer.scopes && html`<${Scopes} peer=${peer} onDone=${reload} />`}
    <footer>
      ${peer.trusted && peer.name && html`<${Act} act=${() => ask("POST", `/trust/${name}/rotate`).then(done("new keys are in use"))}>New keys<//>
        <${Act} kind="danger" sure=${`Trust ${peer.name} no longer? What it has open here is cut at once. To use it again you pair again.`}
          act=${() => ask("POST", `/trust/${name}/revoke`).then(done(`${peer.name} is revoked`))}>Revoke<//>`}
      <${Act} kind="danger" sure=${`Strike ${peer.name || peer.hostname} from the list?`}
        act=${() => ask("DELETE", `/peers/${encodeURIComponent(peer.nodeId)}`).then(done("removed"))}>Remove<//></footer>
  <//>`;
}

function Add({ onClose, reload }) {
  const [address, setAddress] = useState("");
  const [port, setPort] = useState("19532");
  const add = async () => {
    await ask("POST", "/peers", { address: address.trim(), port: Number(port) });
    tell(`${address} is in the list; pair it to use it`, "good");
    reload();
    onClose();
  };
  return html`<${Dialog} title="Add a machine by its address" onClose=${onClose}><form onSubmit=${(event) => event.preventDefault()}>
    <${Field} label="Address" hint="An address or a name of the LAN"><input value=${address} onInput=${(event) => setAddress(event.target.value)} autofocus /><//>
    <${Field} label="Port"><input inputmode="numeric" value=${port} onInput=${(event) => setPort(event.target.value)} /><//>
    <p class="dim">This lists the machine. Pairing is what lets the two use each other.</p>
    <footer><${Act} kind="primary" disabled=${!address.trim()} act=${add}>Add<//></footer></form><//>`;
}

// -- pairing: the daemon holds the session; the page asks how it stands and shows it ------------------------------
function Left({ until }) {
  const now = useNow();
  const seconds = Math.max(0, Math.round((until - now) / 1000));
  return html`<span>${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left</span>`;
}

function Start({ onStatus }) {
  const [address, setAddress] = useState("");
  const [code, setCode] = useState("");
  const invite = async () => {
    await ask("POST", "/pair/start");
    onStatus(await ask("GET", "/pair/status"));
  };
  const join = async () => {
    const [, host, port] = address.trim().match(/^(.*?)(?::(\d+))?$/);
    onStatus(await ask("POST", "/pair/join", { address: host.replace(/^\[|\]$/g, ""), ...(port ? { port: Number(port) } : {}), code: code.trim() }));
  };
  return html`<h3>Show a code here</h3><p>Then type it on the other machine: <code>loopsy pair</code> with this machine's address, or in its dashboard.</p>
    <${Act} kind="primary" act=${invite}>Show a code<//>
    <hr /><h3>Or type the other machine's code</h3><form onSubmit=${(event) => event.preventDefault()}>
    <${Field} label="Its address"><input value=${address} placeholder="192.168.1.20" onInput=${(event) => setAddress(event.target.value)} /><//>
    <${Field} label="The six digits that it shows"><input inputmode="numeric" autocomplete="off" maxlength="6" value=${code} onInput=${(event) => setCode(event.target.value)} /><//>
    <footer><${Act} kind="primary" disabled=${!address.trim() || code.trim().length !== 6} act=${join}>Join<//></footer></form>`;
}

function Compare({ status, onStatus }) {
  const peer = status.peer;
  const answer = (accept) => async () => onStatus(await ask("POST", "/pair/confirm", { accept, ...(accept ? { sas: status.sas } : {}) }));
  return html`<p>Does <strong>${peer?.hostname || "the other machine"}</strong> show the same number?</p>
    <p class="digits" aria-label=${`The number ${[...status.sas].join(" ")}`}>${status.sas.slice(0, 3)} ${status.sas.slice(3)}</p>
    ${peer?.replaces && html`<div class="failure">You are already paired with ${peer.replaces}${peer.pairedAt ? html` (since <${Time} at=${peer.pairedAt} />)` : ""}. Going on replaces its keys.</div>`}
    ${status.theirYes && html`<p><${Badge} kind="good">the other side said yes<//></p>`}
    <footer><${Act} kind="danger" act=${answer(false)}>No, it differs<//><${Act} kind="primary" act=${answer(true)}>Yes, the same<//></footer>`;
}

function Pair({ onClose, reload }) {
  const [status, setStatus] = useState(null);
  const [begun, begin] = useState(false);
  useEffect(() => {
    ask("GET", "/pair/status").then((found) => { setStatus(found); begin(!["idle", "paired", "ended"].includes(found.state)); }, () => {});
  }, []);
  useEffect(() => {
    // A pairing lives for minutes and is looked at closely: it is asked for each second while this dialog is open.
    if (!begun) return undefined;
    const timer = setInterval(() => ask("GET", "/pair/status").then(setStatus, () => {}), 1000);
    return () => clearInterval(timer);
  }, [begun]);
  useEffect(() => { if (begun && status?.state === "paired") reload(); }, [begun, status?.state]);
  const take = (found) => { setStatus(found); begin(true); };
  const cancel = async () => {
    if (begun && !["paired", "ended"].includes(status?.state)) await ask("DELETE", "/pair").catch(() => {});
    onClose();
  };
  const state = begun ? status?.state : "start";
  return html`<${Dialog} title="Pair a machine" onClose=${cancel}>
    ${state === "start" && status?.fault && html`<${Failure} error=${null} />`}
    ${state === "start" && html`<${Start} onStatus=${take} />`}
    ${state === "inviting" && html`<p>On the other machine run <code>loopsy pair ${status.addresses[0] || "ADDRESS"}</code> and type:</p>
      <p class="digits">${status.inviteCode}</p><p class="dim"><${Left} until=${status.expiresAt} /> · also reachable as ${status.addresses.slice(1).join(", ") || "nothing else"}</p>`}
    ${state === "joining" && html`<p role="status">Speaking to the other machine…</p>`}
    ${state === "comparing" && html`<${Compare} status=${status} onStatus=${take} />`}
    ${["confirmed", "finishing"].includes(state) && html`<p role="status">You said yes. Waiting for the other side…</p>`}
    ${state === "paired" && html`<p role="status"><${Badge} kind="good">paired<//> with <strong>${status.peer?.name || status.peer?.hostname}</strong>. It can be used at once.</p>`}
    ${state === "ended" && html`<${Failure} error=${status.fault || { message: "the pairing ended" }} />
      <footer><button type="button" onClick=${() => begin(false)}>Try again</button></footer>`}
  <//>`;
}

const HEADS = ["Name", "Status", "Trust", "Address", "May do here", "Seen"];
const cells = (peer, open) => [
  html`<button type="button" class="link" onClick=${open}>${peer.name || peer.hostname || peer.address}</button>`,
  html`<${State} of=${peer.status} />`,
  peer.trusted ? html`<${Badge} kind=${peer.pin ? "good" : "warn"}>${peer.pin ? "paired, pinned" : "key, no TLS"}<//>` : html`<${Badge}>not paired<//>`,
  `${peer.address}:${peer.port}`,
  peer.scopes ? peer.scopes.join(", ") || "nothing" : "–",
  html`<${Time} at=${peer.lastSeen} />`,
];

export default function Peers({ place }) {
  const peers = useResource("/peers", ["peer", "pairing"]);
  const [open, setOpen] = useState(place.rest[0] || null);
  const [dialog, setDialog] = useState(null);
  const shown = (peers.data?.peers || []).find((peer) => peer.nodeId === open)
    || (peers.data?.peers || []).find((peer) => `manual-${peer.address}:${peer.port}` === open); // it has just said its own
  return html`<div class="spread"><h1>Peers</h1><div class="row"><button type="button" onClick=${() => setDialog("add")}>Add by address</button>
      <button type="button" class="primary" onClick=${() => setDialog("pair")}>Pair a machine</button></div></div>
    <${Loading} of=${peers}>${peers.data?.peers.length ? html`<${Table} label="Peers" heads=${HEADS} rows=${peers.data.peers.map((peer) => ({ key: peer.nodeId, cells: cells(peer, () => setOpen(peer.nodeId)) }))} />` : html`<${Empty}>No machine is known yet. Pair one: both show a number, and you compare.<//>`}<//>
    ${shown && html`<${Peer} peer=${shown} reload=${peers.reload} onClose=${() => setOpen(null)} />`}
    ${dialog === "add" && html`<${Add} reload=${peers.reload} onClose=${() => setDialog(null)} />`}
    ${dialog === "pair" && html`<${Pair} reload=${peers.reload} onClose=${() => setDialog(null)} />`}`;
}
