// Talking to this machine's daemon: questions, and the one stream of events. Other machines are reached through it.
import { useEffect, useState } from "./vendor/preact.js";

const BASE = "/api/v1";

export class ApiError extends Error {
  constructor(status, error) {
    super(error?.message || `the daemon answered ${status}`);
    this.status = status;
    this.code = error?.code;
    this.hint = error?.details?.hint;
    this.details = error?.details || {};
  }
}

/** The address of `path` on a machine (null: this one). */
export const at = (peer, path) => (peer ? `${BASE}/peers/${encodeURIComponent(peer)}${path}` : `${BASE}${path}`);

/** Ask; the answer's JSON. Throws an ApiError. */
export async function ask(method, path, body, { peer = null, signal } = {}) {
  let answer;
  try {
    answer = await fetch(at(peer, path), {
      method,
      signal,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { message: "the daemon does not answer" });
  }
  const data = await answer.json().catch(() => null);
  if (answer.status === 401) live.locked();
  if (!answer.ok) throw new ApiError(answer.status, data?.error);
  return data;
}

// -- the stream of events -----------------------------------------------------------------------------------------
// EventSource comes back by itself, with the id of the last event; the daemon sends what was missed, or "reset".
const QUIET_MS = 40_000; // the daemon says something every 15 s
// A browser opens six connections to us over all of its tabs. One that nobody looks at holds none for longer than this.
const HIDDEN_MS = 30_000;

class Live {
  constructor() {
    this.state = "connecting"; // connecting | live | stale | locked
    this.listeners = new Set();
    this.watchers = new Set();
    this.source = null;
    this.heard = 0;
  }

  /** Once, for the life of the page. */
  begin() {
    this.start();
    document.addEventListener("visibilitychange", () => (document.hidden ? this.doze() : this.wake()));
    setInterval(() => {
      if (this.state !== "live" || !this.source || Date.now() - this.heard < QUIET_MS) return;
      this.set("stale"); // the connection may be dead without a word (a laptop slept): a new one tells
      this.start();
    }, 5_000);
  }

  doze() {
    this.dozing = setTimeout(() => {
      this.source?.close();
      this.source = null;
    }, HIDDEN_MS);
  }

  wake() {
    clearTimeout(this.dozing);
    if (this.source || this.state === "locked") return;
    this.set("stale");
    this.start();
  }

  start() {
    this.source?.close();
    this.heard = Date.now();
    this.source = new EventSource(`${BASE}/events?machines=all&alive=1`);
    this.source.onopen = () => this.alive();
    this.source.onerror = () => this.lost();
    this.source.onmessage = (message) => {
      this.alive();
      const event = JSON.parse(message.data);
      if (event.type !== "alive") this.tell(event);
    };
  }

  alive() {
    this.heard = Date.now();
    if (this.state === "stale") this.tell({ type: "reset" });
    if (this.state !== "locked") this.set("live");
  }

  lost() {
    if (this.state === "locked") return;
    this.set("stale");
    if (this.source?.readyState === EventSource.CLOSED && !this.retry) {
      // The browser gave up: the daemon refused (the session is over) or is away. Ask, then try again.
      this.retry = setTimeout(() => {
        this.retry = null;
        if (this.state === "locked" || !this.source) return;
        ask("GET", "/status").then(() => this.start(), () => this.lost());
      }, 2_000);
    }
  }

  locked() {
    this.set("locked");
    this.source?.close();
  }

  set(state) {
    if (state === this.state) return;
    this.state = state;
    this.watchers.forEach((watcher) => watcher(state));
  }

  tell(event) {
    this.listeners.forEach((listener) => listener(event));
  }
}

export const live = new Live();

/** The stream's state, kept up to date. */
export function useLiveState() {
  const [state, set] = useState(live.state);
  useEffect(() => {
    live.watchers.add(set);
    set(live.state);
    return () => live.watchers.delete(set);
  }, []);
  return state;
}

/** Whether an event is of one of these areas, on this machine or `peer`. */
export const concerns = (event, areas, peer = null) =>
  event.type === "reset" ? !event.machine || event.machine === peer : (event.machine || null) === peer && areas.includes(event.type.split(".")[0]);

// -- what the daemon answered, held once for all parts of the page that show it -------------------------------------
class Resource {
  constructor(path, peer) {
    Object.assign(this, { path, peer, state: { data: null, error: null }, users: new Set(), timer: null, control: null });
  }

  use(user) {
    this.users.add(user);
    if (this.users.size === 1) {
      this.heard = (event) => [...this.users].some((one) => concerns(event, one.areas, this.peer)) && this.soon();
      live.listeners.add(this.heard);
      this.load();
    }
    return () => {
      this.users.delete(user);
      if (this.users.size) return;
      live.listeners.delete(this.heard);
      clearTimeout(this.timer);
      this.control?.abort();
      held.delete(keyOf(this.path, this.peer));
    };
  }

  // Events come in bursts: at most four times a second.
  soon() {
    this.timer ??= setTimeout(() => this.load(), 250);
  }

  load() {
    clearTimeout(this.timer);
    this.timer = null;
    this.control?.abort();
    this.control = new AbortController();
    ask("GET", this.path, undefined, { peer: this.peer, signal: this.control.signal }).then(
      (data) => this.tell({ data, error: null }),
      (error) => error.name !== "AbortError" && this.tell({ ...this.state, error }),
    );
  }

  tell(state) {
    this.state = state;
    this.users.forEach((user) => user.tell(state));
  }
}

const held = new Map();
const keyOf = (path, peer) => `${peer || ""} ${path}`;
const resource = (path, peer) => {
  const key = keyOf(path, peer);
  if (!held.has(key)) held.set(key, new Resource(path, peer));
  return held.get(key);
};
const NOTHING = { data: null, error: null };

/**
 * What `path` answers on a machine, asked again when an event of `areas` says that it changed; null: nothing is asked.
 * → { data, error, reload }
 */
export function useResource(path, areas = [], peer = null) {
  const key = path === null ? null : keyOf(path, peer);
  const [shown, show] = useState({ key: null, state: NOTHING });
  useEffect(() => {
    if (key === null) return undefined;
    const found = resource(path, peer);
    show({ key, state: found.state });
    return found.use({ areas, tell: (state) => show({ key, state }) });
  }, [key]);
  const reload = () => key !== null && resource(path, peer).load();
  return { ...(shown.key === key ? shown.state : NOTHING), reload };
}
