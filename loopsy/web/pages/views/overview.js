// All machines at a glance: what waits for a person first, then what runs, then how each machine is.
import { ask, useResource } from "../net.js";
import { Act, address, Badge, bytes, Empty, Failure, html, lasting, Loading, State, Time, wordFor } from "../ui.js";

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

function Transfers() {
  const { data } = useResource("/transfers", ["transfer"]);
  const running = (data?.transfers || []).filter((one) => one.state === "running");
  if (!running.length) return null;
  return html`<h3>Files on their way</h3><ul class="plain">${running.map((one) => html`<li class="spread" key=${one.transferId}>
    <span class="grow">${one.direction === "send" ? "to" : "from"} ${one.peer}: ${one.sources.join(", ")} <small>${one.bytesTotal ? bytes(one.bytesTotal) : ""} <${Time} at=${one.startedAt} /></small></span>
    <${Act} kind="danger" sure="Stop it? What has arrived stays, and the same command goes on from there." label=${`Stop ${one.sources[0]}`}
      act=${() => ask("DELETE", `/transfers/${one.transferId}`)}>Stop<//></li>`)}</ul>`;
}

const ACTIVE = "/ai-tasks?status=active";
const AREAS = ["job", "task", "approval", "peer", "context", "message"];

// What a machine's status says it has: what it has none of isn't asked for.
function useMachine(peer, asks) {
  const status = useResource(asks ? "/status" : null, AREAS, peer);
  const tasks = useResource(status.data?.aiTasks?.active ? ACTIVE : null, ["task", "approval"], peer);
  const jobs = useResource(status.data?.jobs.active ? "/execute/jobs" : null, ["job"], peer);
  return { status, tasks, jobs };
}

// One machine: its own card asks for itself, so that one that is slow holds up nobody else.
function MachineCard({ peer, name, known }) {
  const away = known && known.status === "offline";
  const trusted = !known || known.trusted;
  const asks = !away && trusted;
  const { status, tasks, jobs } = useMachine(peer, asks);
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
    <${Jobs} jobs=${jobs.data?.jobs} peer=${peer} />${!peer && html`<${Transfers} />`}<${Tasks} tasks=${tasks.data?.tasks} peer=${peer} />
    ${asks && data && html`<div class="row"><a href=${address("terminal", [], { on: peer })}>Terminal</a>
      <a href=${address("files", [], { on: peer })}>Files</a><a href=${address("tasks", [], { on: peer, new: 1 })}>New AI task</a></div>`}
  </section>`;
}

function WaitingThere({ peer }) {
  const { tasks } = useMachine(peer, true);
  return html`<${Waiting} machine=${peer} tasks=${tasks.data?.tasks || []} />`;
}

function Unread({ count }) {
  if (!count) return null;
  return html`<a class="card attention" href=${address("messages")}><strong>${count} unread message${count > 1 ? "s" : ""}</strong></a>`;
}

export default function Overview() {
  const peers = useResource("/peers", ["peer"]);
  const status = useResource("/status", AREAS);
  const all = peers.data?.peers || [];
  const usable = all.filter((peer) => peer.trusted && peer.name && peer.status === "online");
  return html`<h1>Overview</h1>
    <section aria-label="Waits for you"><${WaitingThere} peer=${null} />
      ${usable.map((peer) => html`<${WaitingThere} key=${peer.nodeId} peer=${wordFor(peer)} />`)}
      <${Unread} count=${status.data?.messages?.unread} /></section>
    <${Loading} of=${peers}><div class="cards">
      <${MachineCard} peer=${null} name=${status.data?.hostname || "this machine"} />
      ${all.map((peer) => html`<${MachineCard} key=${peer.nodeId} peer=${wordFor(peer)} name=${peer.name || peer.hostname || peer.address} known=${peer} />`)}
    </div>
    ${!all.length && html`<${Empty}>No other machine yet. <a href=${address("peers")}>Pair one</a>, or run <code>loopsy pair</code> there.<//>`}<//>`;
}
