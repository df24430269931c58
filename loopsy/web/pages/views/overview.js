// All machines at a glance: what waits for a person first, then what runs, then how each machine is.
import { useResource } from "../net.js";
import { address, Act, Badge, Empty, Failure, html, lasting, Loading, State, Time } from "../ui.js";
import { ask } from "../net.js";

function Waiting({ machine, tasks }) {
  return tasks.filter((task) => task.pendingApproval).map((task) => html`
    <a class="card attention" href=${address("tasks", [task.taskId], { on: machine })}>
      <div class="spread"><strong>${task.title}</strong><${Badge} kind="warn">waits for you<//></div>
      <div>${machine || "here"} · ${task.agent} wants to use <code>${task.pendingApproval.toolName}</code></div>
      ${task.pendingApproval.command && html`<pre>${task.pendingApproval.command}</pre>`}
      <small><${Time} at=${task.pendingApproval.timestamp} /></small></a>`);
}

function Jobs({ jobs, peer }) {
  if (!jobs?.length) return null;
  return html`<h3>Commands running</h3><ul class="plain">${jobs.map((job) => html`<li class="spread" key=${job.jobId}>
    <span class="grow"><code>${[job.command, ...job.args].join(" ")}</code> <small><${Time} at=${job.startedAt} /></small></span>
    <${Act} kind="danger" sure=${`End “${job.command}” and everything that it started?`} label=${`End ${job.command}`}
      act=${() => ask("DELETE", `/execute/${job.jobId}`, undefined, { peer })}>End<//></li>`)}</ul>`;
}

function Tasks({ tasks, peer }) {
  const active = (tasks || []).filter((task) => ["pending", "running", "waiting_approval"].includes(task.status));
  if (!active.length) return null;
  return html`<h3>AI tasks</h3><ul class="plain">${active.map((task) => html`<li class="spread" key=${task.taskId}>
    <a class="grow" href=${address("tasks", [task.taskId], { on: peer })}>${task.title}</a><${State} of=${task.status} /></li>`)}</ul>`;
}

// One machine: its own card asks for itself, so that one that is slow holds up nobody else.
function MachineCard({ peer, name, known }) {
  const away = known && known.status === "offline";
  const trusted = !known || known.trusted;
  const asks = !away && trusted;
  const status = useResource(asks ? "/status" : null, ["job", "task", "peer", "context"], peer);
  const tasks = useResource(asks ? "/ai-tasks?status=active" : null, ["task", "approval"], peer);
  const jobs = useResource(asks ? "/execute/jobs" : null, ["job"], peer);
  const data = status.data;
  return html`<section class="card" aria-label=${name}>
    <div class="spread"><h2><a href=${peer ? address("peers", [known.nodeId]) : address("peers")}>${name}</a></h2>
      ${known ? html`<${State} of=${known.status} />` : html`<${Badge} kind="good">here<//>`}</div>
    ${!trusted && html`<p class="dim">Not paired. <a href=${address("peers")}>Pair it</a> to use it from here.</p>`}
    ${away && html`<p class="dim">Last seen <${Time} at=${known.lastSeen} />. Messages to it wait until it is back.</p>`}
    ${asks && status.error && html`<${Failure} error=${status.error} />`}
    ${data && html`<dl><dt>Platform</dt><dd>${data.platform} · loopsy ${data.packageVersion || data.version}</dd>
      <dt>Up for</dt><dd>${lasting(data.uptime * 1000)}</dd>
      <dt>Jobs</dt><dd>${data.jobs.active} now, ${data.jobs.total} in all</dd>
      <dt>Context</dt><dd><a href=${address("context", [], { on: peer })}>${data.context.entries} entries</a></dd></dl>`}
    <${Jobs} jobs=${jobs.data?.jobs} peer=${peer} /><${Tasks} tasks=${tasks.data?.tasks} peer=${peer} />
    ${asks && data && html`<div class="row"><a href=${address("terminal", [], { on: peer })}>Terminal</a>
      <a href=${address("files", [], { on: peer })}>Files</a><a href=${address("tasks", [], { on: peer, new: 1 })}>New AI task</a></div>`}
  </section>`;
}

function Attention({ peers }) {
  const here = useResource("/ai-tasks?status=active", ["task", "approval"]);
  const inbox = useResource("/messages/inbox?state=unread&limit=5", ["message"]);
  const unread = inbox.data?.unread || 0;
  return html`<${Waiting} machine=${null} tasks=${here.data?.tasks || []} />
    ${peers.map((peer) => html`<${WaitingThere} key=${peer.nodeId} peer=${peer.name} />`)}
    ${unread > 0 && html`<a class="card attention" href=${address("messages")}><strong>${unread} unread message${unread > 1 ? "s" : ""}</strong>
      <div class="dim">${inbox.data.messages.map((message) => message.from).filter((from, at, all) => all.indexOf(from) === at).join(", ")}</div></a>`}`;
}

function WaitingThere({ peer }) {
  const tasks = useResource("/ai-tasks?status=active", ["task", "approval"], peer);
  return html`<${Waiting} machine=${peer} tasks=${tasks.data?.tasks || []} />`;
}

export default function Overview() {
  const peers = useResource("/peers", ["peer"]);
  const status = useResource("/status");
  const all = peers.data?.peers || [];
  const usable = all.filter((peer) => peer.trusted && peer.name && peer.status === "online");
  return html`<h1>Overview</h1>
    <section aria-label="Waits for you"><${Attention} peers=${usable} /></section>
    <${Loading} of=${peers}><div class="cards">
      <${MachineCard} peer=${null} name=${status.data?.hostname || "this machine"} />
      ${all.map((peer) => html`<${MachineCard} key=${peer.nodeId} peer=${peer.name || peer.nodeId} name=${peer.name || peer.hostname || peer.address} known=${peer} />`)}
    </div>
    ${!all.length && html`<${Empty}>No other machine yet. <a href=${address("peers")}>Pair one</a>, or run <code>loopsy pair</code> there.<//>`}<//>`;
}
