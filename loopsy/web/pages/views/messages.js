// Messages of this machine: inbox, outbox, threads, states, and writing one. What a peer wrote is shown as text, with whose it is.
import { useEffect, useState } from "../vendor/preact.js";
import { ask, useResource } from "../net.js";
import { Act, address, Badge, Empty, Field, go, html, Loading, State, tell, Time } from "../ui.js";

const PAGE = 50;

function Compose({ to, inReplyTo, onSent }) {
  const peers = useResource("/peers", ["peer"]);
  const [recipient, setRecipient] = useState(to || "");
  const [body, setBody] = useState("");
  const known = (peers.data?.peers || []).filter((peer) => peer.trusted && peer.name);
  useEffect(() => setRecipient(to || ""), [to]);
  const send = async () => {
    const { messages } = await ask("POST", "/messages", { to: recipient, body, origin: "person", ...(inReplyTo ? { inReplyTo } : {}) });
    setBody("");
    tell(messages.length > 1 ? `queued for ${messages.length} machines` : `queued for ${messages[0].to}`, "good");
    onSent?.();
  };
  return html`<form class="card" aria-label="Write a message" onSubmit=${(event) => event.preventDefault()}>
    ${!inReplyTo && html`<${Field} label="To"><select value=${recipient} onChange=${(event) => setRecipient(event.target.value)}>
      <option value="">choose a machine</option>${known.map((peer) => html`<option value=${peer.name}>${peer.name}${peer.status === "offline" ? " (away: it waits)" : ""}</option>`)}
      <option value="*">all machines</option></select><//>`}
    <${Field} label=${inReplyTo ? `Answer ${recipient}` : "Message"}><textarea value=${body} onInput=${(event) => setBody(event.target.value)}></textarea><//>
    <div class="row end"><${Act} kind="primary" disabled=${!recipient || !body.trim()} act=${send}>Send<//></div></form>`;
}

function Message({ message, onDone }) {
  const incoming = message.direction === "in";
  const path = `/messages/${encodeURIComponent(message.id)}`;
  const box = incoming ? "" : "?box=out";
  const changed = (words) => () => { tell(words, "good"); onDone(); };
  return html`<article class="card" aria-label=${`Message ${incoming ? "from" : "to"} ${incoming ? message.from : message.to}`}>
    <div class="spread"><div><strong>${incoming ? message.from : `to ${message.to}`}</strong> ${message.type !== "chat" && html`<${Badge}>${message.type}<//>`}
      ${message.origin === "agent" && html`<${Badge}>agent<//>`}</div>
      <div class="row"><${State} of=${message.state} /><small><${Time} at=${incoming ? message.receivedAt || message.ts : message.ts} /></small></div></div>
    <pre>${message.body}</pre>
    <small class="dim">${incoming ? message.trust : message.reason || ""}${message.claimedFrom ? ` · says it is ${message.claimedFrom}` : ""}</small>
    <div class="row end">${message.thread !== message.id || incoming ? html`<a href=${address("messages", ["thread", message.thread])}>Conversation</a>` : ""}
      ${incoming && message.state === "unread" && html`<${Act} act=${() => ask("POST", `${path}/read`).then(onDone)}>Mark as read<//>`}
      ${incoming && message.state !== "acked" && html`<${Act} act=${() => ask("POST", `${path}/ack`, {}).then(changed("acknowledged"))}>Acknowledge<//>`}
      ${!incoming && message.state === "queued" && html`<${Act} kind="danger" act=${() => ask("DELETE", path + box).then(changed("taken back"))}>Take back<//>`}</div>
  </article>`;
}

// A box is read from its newest end; older ones on request.
function Box({ path, empty }) {
  const [limit, setLimit] = useState(PAGE);
  const page = useResource(`${path}${path.includes("?") ? "&" : "?"}limit=${Math.min(limit, 200)}&newest=1`, ["message"]);
  const messages = page.data?.messages || [];
  return html`<${Loading} of=${page}>${messages.length ? messages.map((message) => html`<${Message} key=${message.id + message.direction} message=${message} onDone=${page.reload} />`)
    : html`<${Empty}>${empty}<//>`}
    ${page.data?.next && limit < 200 && html`<button type="button" onClick=${() => setLimit(limit + PAGE)}>Show more</button>`}<//>`;
}

function Conversation({ id }) {
  const thread = useResource(`/messages/threads/${encodeURIComponent(id)}`, ["message"]);
  const messages = thread.data?.messages || [];
  const last = messages[messages.length - 1];
  const other = messages.find((message) => message.direction === "in")?.from || messages[0]?.to;
  return html`<p><a href=${address("messages")}>All messages</a></p><${Loading} of=${thread}>
    ${messages.map((message) => html`<${Message} key=${message.id + message.direction} message=${message} onDone=${thread.reload} />`)}
    ${last && html`<${Compose} to=${other} inReplyTo=${last.id} onSent=${thread.reload} />`}<//>`;
}

export default function Messages({ place }) {
  const [first, second] = place.rest;
  const box = first === "outbox" ? "outbox" : "inbox";
  if (first === "thread") return html`<h1>Conversation</h1><${Conversation} id=${second} />`;
  const readAll = async () => {
    const { messages } = await ask("POST", "/messages/take", { limit: 200 });
    tell(`${messages.length} marked as read`, "good");
  };
  return html`<div class="spread"><h1>Messages</h1>${box === "inbox" && html`<${Act} act=${readAll}>Mark all as read<//>`}</div>
    <div class="row tabs" role="tablist">
      <button type="button" role="tab" aria-selected=${box === "inbox"} onClick=${() => go("messages")}>Inbox</button>
      <button type="button" role="tab" aria-selected=${box === "outbox"} onClick=${() => go("messages", ["outbox"])}>Outbox</button></div>
    ${box === "inbox" && html`<${Compose} />`}
    <${Box} key=${box} path=${box === "inbox" ? "/messages/inbox" : "/messages/outbox?state=all"}
      empty=${box === "inbox" ? "No messages. Agents and people on your other machines write here." : "Nothing was sent from this machine."} />`;
}
