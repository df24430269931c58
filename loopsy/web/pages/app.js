// The frame: where we are, what waits, whether what is shown is fresh. Each view is a module of its own, loaded when asked for.
import { render, useEffect, useState } from "./vendor/preact.js";
import { ask, live, useLiveState, useResource } from "./net.js";
import { address, Badge, Failure, html, Over, usePlace } from "./ui.js";

const VIEWS = {
  overview: "Overview",
  peers: "Peers",
  tasks: "AI tasks",
  messages: "Messages",
  terminal: "Terminal",
  files: "Files",
  context: "Context",
  audit: "Audit",
};
const STATES = { connecting: "connecting…", live: "live", stale: "not fresh: the daemon does not answer", locked: "" };

function View({ place }) {
  const [loaded, set] = useState(null);
  useEffect(() => {
    let current = true;
    set(null);
    const name = VIEWS[place.view] ? place.view : "overview";
    import(`./views/${name}.js`).then(
      (module) => current && set({ name, Component: module.default }),
      (error) => current && set({ error }),
    );
    return () => (current = false);
  }, [place.view]);
  if (loaded?.error) return html`<${Failure} error=${{ message: "this view could not be loaded", hint: "reload the page" }} />`;
  return loaded && html`<${loaded.Component} place=${place} />`;
}

function Nav({ place, waiting, unread }) {
  const counts = { tasks: waiting, messages: unread };
  return html`<nav aria-label="Views">
    ${Object.entries(VIEWS).map(([name, title]) => html`<a href=${address(name)} aria-current=${place.view === name ? "page" : undefined}>
      ${title}${counts[name] ? html` <${Badge} kind="warn">${counts[name]}<//>` : null}</a>`)}
  </nav>`;
}

function Theme() {
  const [dark, set] = useState(localStorage.getItem("theme") || "");
  useEffect(() => {
    if (dark) document.documentElement.dataset.theme = dark;
    else delete document.documentElement.dataset.theme;
    localStorage.setItem("theme", dark);
  }, [dark]);
  const next = { "": "dark", dark: "light", light: "" };
  const words = { "": "colours of the system", dark: "dark", light: "light" };
  return html`<button type="button" class="quiet" title=${words[dark]} aria-label=${`Colours: ${words[dark]}`} onClick=${() => set(next[dark])}>◐</button>`;
}

function Locked() {
  return html`<main class="door"><h1>loopsy</h1>
    <p role="alert">This browser's session is over.</p><p>Run <code>loopsy dashboard</code> in a terminal: it opens the page again.</p></main>`;
}

function App() {
  const place = usePlace();
  const state = useLiveState();
  const status = useResource("/status", ["peer", "job", "task", "message", "approval"]);
  useEffect(() => live.begin(), []);
  useEffect(() => {
    document.title = `${VIEWS[place.view] || "loopsy"} · ${status.data?.hostname || "loopsy"}`;
  }, [place.view, status.data?.hostname]);
  if (state === "locked") return html`<${Locked} />`;
  const leave = () => ask("DELETE", "/dashboard/session").finally(() => live.locked());
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.getElementById("main").focus(); }}>To the content</a>
    <header class="bar"><a class="brand" href="#/overview">loopsy</a><span class="host">${status.data?.hostname || ""}</span>
      <span class=${`live ${state}`} role="status">${STATES[state]}</span><${Theme} />
      <button type="button" class="quiet" onClick=${leave}>Sign out</button></header>
    <div class="frame"><${Nav} place=${place} waiting=${status.data?.aiTasks?.waiting} unread=${status.data?.messages?.unread} />
      <main id="main" tabindex="-1"><${View} place=${place} /></main></div><${Over} />`;
}

render(html`<${App} />`, document.getElementById("app"));
