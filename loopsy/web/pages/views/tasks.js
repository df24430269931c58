// AI tasks of any machine: ask for one, watch it, decide what it asks, cancel, resume, see what changed and what it cost.
import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ask, at, useResource } from "../net.js";
import { Act, address, Badge, Dialog, Empty, Failure, Field, go, html, lasting, Loading, Long, Machine, State, tell, Time, useNow } from "../ui.js";

const FINAL = ["completed", "failed", "cancelled"];
const WINDOW = 200; // events in the page at once; the rest is held, and a button away
const MODES = { default: "ask before tools", acceptEdits: "edits go through, commands ask", dontAsk: "what would ask is denied", bypassPermissions: "everything goes through" };
const taskPath = (id, rest = "") => `/ai-tasks/${encodeURIComponent(id)}${rest}`;

// -- asking for one -----------------------------------------------------------------------------------------------
function New({ peer, onClose }) {
  const [machine, setMachine] = useState(peer);
  const [form, setForm] = useState({ prompt: "", agent: "claude", cwd: "", permissionMode: "default", worktree: false, queue: true });
  const set = (name) => (event) => setForm({ ...form, [name]: event.target.type === "checkbox" ? event.target.checked : event.target.value });
  const start = async () => {
    const { cwd, ...rest } = form;
    const task = await ask("POST", "/ai-tasks", { ...rest, ...(cwd.trim() ? { cwd: cwd.trim() } : {}) }, { peer: machine });
    onClose();
    go("tasks", [task.taskId], { on: machine });
  };
  return html`<${Dialog} title="New AI task" onClose=${onClose}><form onSubmit=${(event) => event.preventDefault()}>
    <${Machine} value=${machine} onChange=${setMachine} />
    <${Field} label="What shall it do?"><textarea rows="5" value=${form.prompt} onInput=${set("prompt")} autofocus></textarea><//>
    <div class="row"><div class="grow"><${Field} label="Agent"><select value=${form.agent} onChange=${set("agent")}>
        <option value="claude">Claude Code</option><option value="codex">Codex</option><option value="gemini">Gemini CLI</option></select><//></div>
      <div class="grow"><${Field} label="Permissions"><select value=${form.permissionMode} onChange=${set("permissionMode")}>
        ${Object.entries(MODES).map(([mode, words]) => html`<option value=${mode}>${words}</option>`)}</select><//></div></div>
    <${Field} label="Directory" hint="Empty: the home directory there"><input value=${form.cwd} placeholder="~/project" onInput=${set("cwd")} /><//>
    <label class="tick"><input type="checkbox" checked=${form.worktree} onChange=${set("worktree")} /><span>In a fresh git worktree; hand back a patch</span></label>
    <label class="tick"><input type="checkbox" checked=${form.queue} onChange=${set("queue")} /><span>Wait for a free slot</span></label>
    <footer><${Act} kind="primary" disabled=${!form.prompt.trim()} act=${start}>Start<//></footer></form><//>`;
}

// -- what it asks -------------------------------------------------------------------------------------------------
export function Diff({ text }) {
  const kind = (line) => (/^(@@|---|\+\+\+|diff |index )/.test(line) ? "at" : line.startsWith("+") ? "add" : line.startsWith("-") ? "del" : "");
  return html`<pre class="diff" tabindex="0">${text.split("\n").map((line) => html`<span class=${kind(line)}>${line}\n</span>`)}</pre>`;
}

function Countdown({ until }) {
  const now = useNow();
  const left = until - now;
  return html`<small>${left > 0 ? `denied in ${lasting(left)} without an answer` : "the time is over"}</small>`;
}

function Approval({ approval, task, peer }) {
  const [message, setMessage] = useState("");
  const [rule, setRule] = useState(approval.suggestedRule);
  const [refused, refuse] = useState(null);
  const answer = (approved, remember) => async () => {
    const body = { requestId: approval.requestId, approved, ...(approved ? { remember } : {}) };
    if (remember === "always") body.rule = rule;
    if (!approved && message.trim()) body.message = message.trim();
    try {
      await ask("POST", taskPath(task.taskId, "/approve"), body, { peer });
    } catch (error) {
      if (!peer || error.status !== 403) throw error;
      refuse({ message: `${peer} does not let this machine answer for it`, hint: `Answer on ${peer} itself, or give this machine the scope “approve” there (in its dashboard: Peers).` });
      return;
    }
    tell(approved ? "allowed" : "denied", approved ? "good" : "plain");
  };
  return html`<section class="card attention" aria-label="Waits for your decision">
    <div class="spread"><h2>${task.agent} wants to use ${approval.toolName}</h2><${Countdown} until=${approval.expiresAt} /></div>
    ${approval.description && html`<p>${approval.description}</p>`}<p class="dim">in ${approval.cwd}</p>
    ${approval.command && html`<pre tabindex="0">${approval.command}</pre>`}${approval.path && html`<p><code>${approval.path}</code></p>`}
    ${approval.diff ? html`<${Diff} text=${approval.diff} />` : !approval.command && html`<pre tabindex="0">${JSON.stringify(approval.toolInput, null, 2)}</pre>`}
    <${Failure} error=${refused} />
    <div class="row"><${Act} kind="primary" act=${answer(true, "once")}>Allow<//><${Act} act=${answer(true, "task")}>Allow for this task<//>
      <span class="grow"><${Field} label="Word to the agent, if denied"><input value=${message} onInput=${(event) => setMessage(event.target.value)} /><//></span>
      <${Act} kind="danger" act=${answer(false)}>Deny<//></div>
    ${!peer && html`<details><summary>Always allow</summary><div class="row"><span class="grow"><${Field} label="Rule" hint="Kept in the configuration; “loopsy task rules” shows and removes it">
      <input class="mono" value=${rule} onInput=${(event) => setRule(event.target.value)} /><//></span><${Act} act=${answer(true, "always")}>Always allow<//></div></details>`}
  </section>`;
}

// -- what happened ------------------------------------------------------------------------------------------------
const summary = (input) => input.command || input.file_path || input.path || input.pattern || input.url || JSON.stringify(input);

const SHOWN = {
  text: ({ text }) => html`<div class="said">${text}</div>`,
  thinking: ({ text }) => html`<details class="dim"><summary>thought</summary><pre>${text}</pre></details>`,
  tool_use: ({ toolName, input }) => html`<details><summary><${Badge} kind="busy">${toolName}<//> <span class="mono">${String(summary(input || {})).slice(0, 200)}</span></summary><pre>${JSON.stringify(input, null, 2)}</pre></details>`,
  tool_result: ({ output, isError }) => html`<details open=${isError}><summary>${isError ? html`<${Badge} kind="bad">failed<//>` : "answer"} <span class="mono dim">${String(output || "").slice(0, 120)}</span></summary><pre>${output}</pre></details>`,
  permission_request: ({ toolName, command, path }) => html`<${Badge} kind="warn">asks<//> ${toolName} <code>${command || path || ""}</code>`,
  permission_answer: ({ approved, by, how, message }) => html`<${Badge} kind=${approved ? "good" : "bad"}>${approved ? "allowed" : "denied"}<//> by ${by} (${how})${message ? html`: ${message}` : ""}`,
  status: ({ status, reason }) => html`<${State} of=${status} /> ${reason || ""}`,
  system: (data) => html`<span class="dim">${data.subtype === "init" ? `session ${data.sessionId || ""} ${data.model || ""}` : data.text}</span>`,
  error: ({ message }) => html`<div class="failure">${message}</div>`,
  result: ({ text, isError }) => html`<div class=${isError ? "failure" : "said result"}>${text}</div>`,
  exit: ({ exitCode, signal }) => html`<span class="dim">ended with ${signal || exitCode}</span>`,
};

const Event = ({ event }) => html`<div class=${`event ${event.type}`} title=${new Date(event.timestamp).toLocaleString()}>${(SHOWN[event.type] || ((data) => html`<pre>${JSON.stringify(data)}</pre>`))(event.data)}</div>`;

// Events come over a stream of their own, from the first on; the browser reconnects behind the last one that it has.
function useTaskEvents(id, peer) {
  const held = useRef([]);
  const [count, setCount] = useState(0);
  useEffect(() => {
    held.current = [];
    setCount(0);
    const source = new EventSource(at(peer, taskPath(id, "/stream?after=0")));
    let drawing = false;
    source.onmessage = (message) => {
      const event = JSON.parse(message.data);
      const last = held.current[held.current.length - 1];
      if (last && event.seq <= last.seq) return;
      held.current.push(event);
      if (event.type === "exit") source.close();
      if (!drawing) {
        drawing = true;
        requestAnimationFrame(() => { drawing = false; setCount(held.current.length); });
      }
    };
    return () => source.close();
  }, [id, peer]);
  return { events: held.current, count };
}

function Events({ id, peer }) {
  const { events, count } = useTaskEvents(id, peer);
  const [end, setEnd] = useState(null); // null: the newest
  const box = useRef(null);
  const atEnd = useRef(true);
  useEffect(() => {
    if (end === null && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [count, end]);
  const to = end ?? count;
  const from = Math.max(0, to - WINDOW);
  return html`<section aria-label="What happened"><div class="spread"><h2>What happened</h2><div class="row"><small>${from + 1 > to ? 0 : from + 1}–${to} of ${count}</small>
      <button type="button" disabled=${from === 0} onClick=${() => setEnd(Math.max(WINDOW, from + 20))}>Earlier</button>
      <button type="button" disabled=${end === null} onClick=${() => setEnd(to + WINDOW >= count ? null : to + WINDOW - 20)}>Later</button>
      <button type="button" disabled=${end === null} onClick=${() => setEnd(null)}>Newest</button></div></div>
    <div class="events" ref=${box} tabindex="0" role="log" aria-label="Events" onScroll=${(event) => (atEnd.current = event.target.scrollTop + event.target.clientHeight >= event.target.scrollHeight - 40)}>
      ${events.slice(from, to).map((event) => html`<${Event} key=${event.seq} event=${event} />`)}</div></section>`;
}

function Patch({ task, peer }) {
  const [text, setText] = useState(null);
  const diff = task.result?.diff;
  if (!diff) return null;
  const show = async () => {
    const answer = await fetch(at(peer, taskPath(task.taskId, "/patch")));
    setText(answer.ok ? await answer.text() : "the patch is gone");
  };
  return html`<section class="card"><div class="spread"><h2>${diff.files} file${diff.files === 1 ? "" : "s"} changed</h2><span><span class="badge good">+${diff.insertions}</span> <span class="badge bad">−${diff.deletions}</span>
    ${diff.patch && text === null && html` <${Act} act=${show}>Show the patch<//>`}</span></div>${text !== null && html`<${Diff} text=${text} />`}</section>`;
}

function Detail({ id, peer }) {
  const resource = useResource(taskPath(id), ["task", "approval"], peer);
  const [again, setAgain] = useState("");
  const task = resource.data;
  if (!task) return html`<${Loading} of=${resource} />`;
  const result = task.result || {};
  const figures = [
    ["Machine", peer || "here"], ["Agent", `${task.agent}${task.model ? ` · ${task.model}` : ""}`], ["Directory", task.cwd], ["Asked by", task.from],
    ["Began", html`<${Time} at=${task.startedAt} />`], ["Took", result.durationMs ? lasting(result.durationMs) : null],
    ["Cost", result.costUsd != null ? `$${result.costUsd.toFixed(4)}` : null], ["Turns", result.turns],
    ["Tokens", result.inputTokens != null ? `${result.inputTokens} in, ${result.outputTokens} out` : null], ["Session", task.sessionId],
  ].filter(([, value]) => value !== null && value !== undefined);
  const resume = async () => {
    const next = await ask("POST", taskPath(id, "/resume"), { prompt: again, queue: true }, { peer });
    setAgain("");
    go("tasks", [next.taskId], { on: peer });
  };
  const cancel = () => ask("DELETE", taskPath(id), undefined, { peer });
  const remove = () => cancel().then(() => { tell("removed", "good"); go("tasks", [], { on: peer }); });
  return html`<p><a href=${address("tasks", [], { on: peer })}>All tasks</a></p>
    <div class="spread"><h1>${task.title}</h1><div class="row"><${State} of=${task.status} />
      ${FINAL.includes(task.status) ? html`<${Act} kind="danger" sure="Remove this task and its events?" act=${remove}>Remove<//>`
        : html`<${Act} kind="danger" sure="End the agent and everything that it started?" act=${cancel}>Cancel<//>`}</div></div>
    ${task.queuePosition ? html`<p>Number ${task.queuePosition} in the queue.</p>` : ""}
    ${task.error && html`<${Failure} error=${{ message: task.error }} />`}
    ${task.pendingApproval && html`<${Approval} key=${task.pendingApproval.requestId} approval=${task.pendingApproval} task=${task} peer=${peer} />`}
    <details class="card" open=${!FINAL.includes(task.status)}><summary>Prompt and figures</summary><pre>${task.prompt}</pre><dl>${figures.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl></details>
    <${Patch} task=${task} peer=${peer} /><${Events} id=${id} peer=${peer} />
    ${FINAL.includes(task.status) && task.sessionId && html`<form class="card" onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="Go on in this session"><textarea value=${again} onInput=${(event) => setAgain(event.target.value)}></textarea><//>
      <div class="row end"><${Act} kind="primary" disabled=${!again.trim()} act=${resume}>Resume<//></div></form>`}`;
}

function List({ peer }) {
  const list = useResource("/ai-tasks", ["task", "approval"], peer);
  const tasks = (list.data?.tasks || []).map((task) => ({ ...task, key: task.taskId }));
  return html`<${Loading} of=${list}>${tasks.length ? html`<${Long} label="Tasks" height=${60} items=${tasks} row=${(task) => html`<div class="two">
      <span class="line-plain"><a href=${address("tasks", [task.taskId], { on: peer })}>${task.title}</a></span><${State} of=${task.status} />
      <small class="line-plain">${task.agent} · ${task.cwd}</small><small>${task.result?.costUsd != null ? `$${task.result.costUsd.toFixed(4)} · ` : ""}<${Time} at=${task.startedAt} /></small></div>`} />`
    : html`<${Empty}>No task yet. Give an agent something to do, on this machine or another.<//>`}<//>`;
}

export default function Tasks({ place }) {
  const peer = place.query.get("on");
  const [asking, setAsking] = useState(place.query.get("new") !== null);
  const [id] = place.rest;
  if (id) return html`<${Detail} key=${id} id=${id} peer=${peer} />`;
  return html`<div class="spread"><h1>AI tasks</h1><button type="button" class="primary" onClick=${() => setAsking(true)}>New AI task</button></div>
    <div class="card"><${Machine} value=${peer} onChange=${(on) => go("tasks", [], { on })} /></div><${List} peer=${peer} />
    ${asking && html`<${New} peer=${peer} onClose=${() => setAsking(false)} />`}`;
}
