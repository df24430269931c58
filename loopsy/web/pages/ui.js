// The pieces that every view is made of. Text from peers only ever becomes text nodes.
import { html, options, useEffect, useLayoutEffect, useRef, useState } from "./vendor/preact.js";
import { live, useResource } from "./net.js";

export { html };

// -- what a reader would not see, or see elsewhere than it stands ---------------------------------------------------
// Controls, marks that turn the direction of text (a name "gpj.exe" that reads "exe.jpg"), and characters of no width,
// all shown as one sign. In one place for all that the page shows; values that are edited stay as they are.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;
const seen = (child) => (typeof child === "string" ? child.replace(UNSEEN, "\ufffd") : Array.isArray(child) ? child.map(seen) : child);
const made = options.vnode;
options.vnode = (vnode) => {
  if (typeof vnode.type === "string") {
    for (const name of ["children", "title", "aria-label"]) if (vnode.props[name] != null) vnode.props[name] = seen(vnode.props[name]);
  }
  made?.(vnode);
};

// -- figures ------------------------------------------------------------------------------------------------------
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1536 → "1.5 KiB" */
export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) [count, unit] = [count / 1024, unit + 1];
  return `${unit && count < 100 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

/** Milliseconds → "3 min 5 s" */
export function lasting(ms) {
  const s = Math.round(ms / 1000);
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60 ? `${s % 60} s` : ""}`.trim();
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

// One clock for all relative times on the page.
const ticking = new Set();
setInterval(() => ticking.forEach((tick) => tick()), 1000);

export function useNow() {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const tick = () => set(Date.now());
    ticking.add(tick);
    return () => ticking.delete(tick);
  }, []);
  return now;
}

/** "3 min ago", with the moment itself on hover. */
export function Time({ at }) {
  const now = useNow();
  if (!at) return html`<span class="dim">never</span>`;
  const away = now - at;
  const words = Math.abs(away) < 5_000 ? "now" : away > 0 ? `${short(away)} ago` : `in ${short(-away)}`;
  return html`<time dateTime=${new Date(at).toISOString()} title=${new Date(at).toLocaleString()}>${words}</time>`;
}

function short(ms) {
  const s = Math.round(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} days`;
}

// -- small parts --------------------------------------------------------------------------------------------------
export const Badge = ({ kind = "plain", children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

const KINDS = {
  online: "good", offline: "bad", unknown: "dim", running: "busy", waiting_approval: "warn", completed: "good",
  failed: "bad", cancelled: "dim", pending: "dim", queued: "dim", delivered: "busy", unread: "warn", read: "plain",
  acked: "good", expired: "bad", refused: "bad", undeliverable: "bad", ended: "dim",
};
export const State = ({ of }) => html`<${Badge} kind=${KINDS[of] || "plain"}>${of.replace("_", " ")}<//>`;

export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

export function Failure({ error }) {
  if (!error) return null;
  return html`<div class="failure" role="alert"><strong>${error.message}</strong>${error.hint && html`<div>${error.hint}</div>`}</div>`;
}

export function Loading({ of, children }) {
  if (of.error && !of.data) return html`<${Failure} error=${of.error} />`;
  if (!of.data) return html`<p class="dim" role="status">Loading…</p>`;
  return html`${of.error && html`<${Failure} error=${of.error} />`}${children}`;
}

export const Code = ({ children }) => html`<code>${children}</code>`;

/** A button that does something which takes time, and may fail; says so. With `sure`, it asks first. */
export function Act({ act, sure, kind = "", disabled, children, label }) {
  const [busy, setBusy] = useState(false);
  const run = async () => {
    if (sure && !(await confirmation(sure))) return;
    setBusy(true);
    try {
      await act();
    } catch (error) {
      tell(error.hint ? `${error.message}: ${error.hint}` : error.message, "bad");
    } finally {
      setBusy(false);
    }
  };
  // The main button of a form is what Enter in one of its fields presses.
  return html`<button type=${kind === "primary" ? "submit" : "button"} class=${kind} disabled=${busy || disabled} aria-busy=${busy} aria-label=${label} onClick=${run}>${children}</button>`;
}

/** A table; on a narrow screen each row is a list, its cells named by their column. `rows`: [{ key, cells }] */
export function Table({ label, heads, rows }) {
  return html`<div class="card"><table aria-label=${label}><thead><tr>${heads.map((head) => html`<th scope="col">${head}</th>`)}</tr></thead>
    <tbody>${rows.map(({ key, cells }) => html`<tr key=${key}>${cells.map((cell, at) => html`<td data-head=${heads[at]}><div>${cell}</div></td>`)}</tr>`)}</tbody></table></div>`;
}

export function Field({ label, hint, children }) {
  return html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;
}

/** How an address names a peer. Browsers fold "." and ".." away, so one that is called so goes by its id. */
export const wordFor = (peer) => (!peer.name || [".", ".."].includes(peer.name) ? peer.nodeId : peer.name);

/** Which machine a view is about; null is this one. */
export function Machine({ value, onChange, scope, label = "Machine" }) {
  const peers = useResource("/peers", ["peer"]);
  const status = useResource("/status");
  const known = (peers.data?.peers || []).filter((peer) => peer.trusted && peer.name);
  return html`<${Field} label=${label}>
    <select value=${value || ""} onChange=${(event) => onChange(event.target.value || null)}>
      <option value="">${status.data?.hostname || "this machine"} (here)</option>
      ${known.map((peer) => html`<option key=${peer.nodeId} value=${wordFor(peer)} disabled=${peer.status === "offline"}>
        ${peer.name}${peer.status === "offline" ? " (offline)" : ""}</option>`)}
      ${value && peers.data && !known.some((peer) => wordFor(peer) === value) && html`<option value=${value}>${value} (not known)</option>`}
    </select>
  <//>`;
}

/** A dialog over the page; Escape and the backdrop close it. */
export function Dialog({ title, onClose, children }) {
  const element = useRef(null);
  const [before] = useState(() => document.activeElement); // now, as it is asked for: effects run later, after the next paint
  useLayoutEffect(() => {
    const dialog = element.current;
    if (!dialog.open) dialog.showModal();
    (dialog.querySelector("[autofocus]") || dialog.querySelector("form :is(input, textarea, select):not(:disabled), footer button"))?.focus();
    return () => { dialog.close(); (before?.isConnected ? before : document.getElementById("main"))?.focus(); };
  }, []);
  const outside = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} aria-label=${title} onCancel=${(event) => { event.preventDefault(); onClose(); }} onClick=${outside}>
    <div class="dialog"><header><h2>${title}</h2>
      <button type="button" class="quiet" aria-label="Close" onClick=${onClose}>✕</button></header>${children}</div>
  </dialog>`;
}

/**
 * A long list of which only what is seen is in the page. Every row is `height` pixels.
 * `row(item, index)` gives its content; keep `items` in a stable order.
 */
export function Long({ items, height, row, label, stick = false }) {
  const element = useRef(null);
  const [view, setView] = useState({ from: 0, to: 60 });
  const atEnd = useRef(true);
  const look = () => {
    const box = element.current;
    if (!box) return;
    atEnd.current = box.scrollTop + box.clientHeight >= box.scrollHeight - height;
    const from = Math.max(0, Math.floor(box.scrollTop / height) - 10);
    const to = Math.ceil((box.scrollTop + box.clientHeight) / height) + 10;
    setView((old) => (old.from === from && old.to === to ? old : { from, to }));
  };
  useEffect(() => {
    const watch = new ResizeObserver(look);
    watch.observe(element.current);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (stick && atEnd.current) element.current.scrollTop = element.current.scrollHeight;
    look();
  }, [items.length]);
  return html`<div class="long" style=${{ height: `min(60vh, ${items.length * height + 2}px)` }} ref=${element} onScroll=${look} tabindex="0" role="list" aria-label=${label}>
    <div style=${{ height: `${items.length * height}px` }}>
      <div style=${{ transform: `translateY(${view.from * height}px)` }}>
        ${items.slice(view.from, view.to).map((item, at) => html`<div role="listitem" class="long-row" style=${{ height: `${height}px` }}
          key=${item.key ?? view.from + at} aria-setsize=${items.length} aria-posinset=${view.from + at + 1}>${row(item, view.from + at)}</div>`)}
      </div>
    </div>
  </div>`;
}

// -- things said over the page ------------------------------------------------------------------------------------
let toasts = [];
const toastWatchers = new Set();
const toasted = () => toastWatchers.forEach((watcher) => watcher(toasts));

/** Say something for a while: kind "good", "bad" or "plain". */
export function tell(text, kind = "plain") {
  const toast = { text, kind, key: Math.random() };
  toasts = [...toasts.slice(-3), toast];
  toasted();
  setTimeout(() => {
    toasts = toasts.filter((other) => other !== toast);
    toasted();
  }, kind === "bad" ? 10_000 : 4_000);
}

let question = null;
const questionWatchers = new Set();

/** Ask for a yes; resolves to true or false. */
export function confirmation(text) {
  return new Promise((resolve) => {
    const answer = (value) => {
      question = null;
      questionWatchers.forEach((watcher) => watcher(null));
      resolve(value);
    };
    question = { text, answer };
    questionWatchers.forEach((watcher) => watcher(question));
  });
}

export function Over() {
  const [shown, show] = useState(toasts);
  const [asked, setAsked] = useState(null);
  useEffect(() => {
    toastWatchers.add(show);
    questionWatchers.add(setAsked);
    return () => {
      toastWatchers.delete(show);
      questionWatchers.delete(setAsked);
    };
  }, []);
  return html`<div class="toasts" role="status" aria-live="polite">
      ${shown.map((toast) => html`<div key=${toast.key} class=${`toast ${toast.kind}`}>${toast.text}</div>`)}
    </div>
    ${asked && html`<${Dialog} title="Sure?" onClose=${() => asked.answer(false)}>
      <p>${asked.text}</p>
      <footer><button type="button" onClick=${() => asked.answer(false)}>Cancel</button>
        <button type="button" class="danger" onClick=${() => asked.answer(true)}>Yes</button></footer>
    <//>`}`;
}

// -- where we are: #/view/word?on=machine --------------------------------------------------------------------------
const parsed = () => {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/").map(decodeURIComponent);
  return { view: view || "overview", rest, query: new URLSearchParams(query || "") };
};

export function usePlace() {
  const [place, set] = useState(parsed());
  useEffect(() => {
    const moved = () => set(parsed());
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  return place;
}

export function address(view, rest = [], query = {}) {
  const words = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
  const path = [view, ...rest].map(encodeURIComponent).join("/");
  return `#/${path}${words.size ? `?${words}` : ""}`;
}

export const go = (view, rest, query) => (location.hash = address(view, rest, query));
export { live };
