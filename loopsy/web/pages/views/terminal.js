// Terminals of any machine (xterm.js over a WebSocket to this machine's daemon), and single commands with their output as it comes.
import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ApiError, ask, at, useResource } from "../net.js";
import { Act, address, Badge, Empty, Failure, Field, go, html, Loading, Machine, State, Table, tell, Time } from "../ui.js";

const THEME = (dark) => (dark ? { background: "#16181b", foreground: "#e8e9eb", cursor: "#7db7f2" } : { background: "#ffffff", foreground: "#1d1f21", cursor: "#0b57a4", selectionBackground: "#bcd8f5" });
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

let loading = null;
function xterm() {
  loading ??= (async () => {
    const sheet = document.createElement("link");
    sheet.rel = "stylesheet";
    sheet.href = "/dashboard/vendor/xterm.css";
    document.head.append(sheet);
    const [{ Terminal }, { FitAddon }] = await Promise.all([import("../vendor/xterm.js"), import("../vendor/fit.js")]);
    return { Terminal, FitAddon };
  })();
  return loading;
}

function Screen({ id, peer, watch }) {
  const box = useRef(null);
  const [state, setState] = useState("connecting");
  const [attempt, again] = useState(0);
  useEffect(() => {
    let over = false;
    let socket = null;
    let terminal = null;
    let watcher = null;
    xterm().then(({ Terminal, FitAddon }) => {
      if (over) return;
      terminal = new Terminal({ theme: THEME(isDark()), fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, monospace', fontSize: 14, scrollback: 2000, screenReaderMode: false, cursorBlink: false });
      const fit = new FitAddon();
      terminal.loadAddon(fit);
      terminal.open(box.current);
      terminal.attachCustomKeyEventHandler((event) => {
        if (!(event.ctrlKey && event.key === "F6")) return true;
        if (event.type === "keydown") document.getElementById("terminals")?.focus(); // every other key is the program's
        return false;
      });
      fit.fit();
      const scheme = location.protocol === "https:" ? "wss" : "ws";
      const path = at(peer, `/terminals/${encodeURIComponent(id)}/attach`);
      socket = new WebSocket(`${scheme}://${location.host}${path}?mode=${watch ? "watch" : "write"}&cols=${terminal.cols}&rows=${terminal.rows}`, "loopsy.terminal.1");
      socket.binaryType = "arraybuffer";
      const words = {
        hello: ({ terminal: info }) => { setState("live"); if (watch) terminal.resize(info.cols, info.rows); terminal.focus(); },
        resize: ({ cols, rows }) => { if (cols !== terminal.cols || rows !== terminal.rows) terminal.resize(cols, rows); },
        exit: ({ exitCode, signal }) => { setState("ended"); terminal.write(`\r\n\x1b[2m[ended with ${signal || exitCode}]\x1b[0m\r\n`); },
        skipped: () => {},
        viewers: () => {},
      };
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") return terminal.write(new Uint8Array(data));
        const message = JSON.parse(data);
        return words[message.type]?.(message);
      };
      socket.onclose = () => setState((now) => (now === "ended" ? now : "lost"));
      const encoder = new TextEncoder();
      terminal.onData((text) => !watch && socket.readyState === 1 && socket.send(encoder.encode(text)));
      terminal.onBinary((text) => !watch && socket.readyState === 1 && socket.send(Uint8Array.from(text, (one) => one.charCodeAt(0))));
      if (!watch) {
        terminal.onResize(({ cols, rows }) => socket.readyState === 1 && socket.send(JSON.stringify({ type: "resize", cols, rows })));
        watcher = new ResizeObserver(() => fit.fit());
        watcher.observe(box.current);
      }
      box.current.loopsyTerminal = terminal; // for tests: what it shows
    });
    return () => {
      over = true;
      watcher?.disconnect();
      socket?.close();
      terminal?.dispose();
    };
  }, [id, peer, watch, attempt]);
  return html`<div class="spread"><small role="status">${state === "live" ? "" : state}</small>
      ${state === "lost" && html`<button type="button" onClick=${() => again(attempt + 1)}>Connect again</button>`}</div>
    <div class="screen" ref=${box} role="application" aria-label="Terminal" data-state=${state}></div>`;
}

// -- one command, its output as it comes ----------------------------------------------------------------------------
const SHOWN = 200_000; // characters of output that stay in the page

function Run({ peer }) {
  const [line, setLine] = useState("");
  const [output, setOutput] = useState("");
  const [end, setEnd] = useState(null);
  const [error, setError] = useState(null);
  const [runs, setRuns] = useState(false);
  const control = useRef(null);
  const run = async () => {
    setRuns(true);
    setOutput("");
    setEnd(null);
    setError(null);
    control.current = new AbortController();
    try {
      const answer = await fetch(at(peer, "/execute/stream"), {
        method: "POST", signal: control.current.signal, headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ command: "sh", args: ["-c", line] }),
      });
      if (!answer.ok) throw new ApiError(answer.status, (await answer.json().catch(() => null))?.error);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        let text = "";
        for (const event of events.map((one) => JSON.parse(one.replace(/^data: /, "")))) {
          if (event.type === "exit") setEnd(event.signal || event.exitCode);
          else if (event.type === "error") setError({ message: String(event.data) });
          else text += event.data;
        }
        if (text) setOutput((old) => (old + text).slice(-SHOWN));
      }
    } catch (failure) {
      if (failure.name === "AbortError") setEnd("cancelled");
      else setError(failure);
    } finally {
      control.current = null;
      setRuns(false);
    }
  };
  return html`<section class="card"><h2>Run a command</h2><form onSubmit=${(event) => event.preventDefault()}>
      <${Field} label="A line for the shell there"><input class="mono" value=${line} onInput=${(event) => setLine(event.target.value)} /><//>
      <div class="row"><${Act} kind="primary" disabled=${!line.trim()} act=${run}>Run<//><button type="button" disabled=${!runs} onClick=${() => control.current?.abort()}>Stop</button>
        ${end !== null && html`<${Badge} kind=${end === 0 ? "good" : "bad"}>ended with ${end}<//>`}</div></form>
    <${Failure} error=${error} />${output && html`<pre class="output" tabindex="0" aria-label="Output">${output}</pre>`}</section>`;
}

const HEADS = ["Program", "State", "Viewers", "Opened by", "Since", ""];
const cells = (one, peer, kill) => {
  const runs = one.status === "running";
  return [
    html`<a href=${address("terminal", [one.terminalId], { on: peer })}>${one.title}</a> <small class="mono">${one.terminalId.slice(0, 8)}</small>`,
    html`<${State} of=${one.status} />`, one.viewers, one.from, html`<${Time} at=${one.startedAt} />`,
    html`<span class="row">${runs && html`<a href=${address("terminal", [one.terminalId], { on: peer, watch: 1 })}>Watch</a>`}
      <${Act} kind="danger" sure=${runs ? "End it and all that runs in it?" : null} label=${`${runs ? "End" : "Remove"} ${one.title}`} act=${() => kill(one)}>${runs ? "End" : "Remove"}<//></span>`,
  ];
};

export default function TerminalView({ place }) {
  const peer = place.query.get("on");
  const [id] = place.rest;
  const watch = place.query.get("watch") !== null;
  const list = useResource("/terminals", ["terminal"], peer);
  useEffect(() => list.reload(), [id]); // who watches is no event
  const open = async () => {
    const terminal = await ask("POST", "/terminals", {}, { peer });
    go("terminal", [terminal.terminalId], { on: peer });
  };
  const kill = (terminal) => ask("DELETE", `/terminals/${terminal.terminalId}`, undefined, { peer }).then(() => { tell("told to end", "good"); list.reload(); });
  if (id) {
    return html`<div class="spread"><h1>Terminal <small>${peer || "here"}</small></h1><a id="terminals" href=${address("terminal", [], { on: peer })}>All terminals</a></div>
      <${Screen} key=${`${id}${watch}`} id=${id} peer=${peer} watch=${watch} /><p class="dim">It goes on when you leave this page. Ctrl+F6 takes the keyboard out of it.</p>`;
  }
  const terminals = list.data?.terminals || [];
  return html`<div class="spread"><h1>Terminal</h1><${Act} kind="primary" act=${open}>Open a shell<//></div>
    <div class="card"><${Machine} value=${peer} onChange=${(on) => go("terminal", [], { on })} /></div>
    <${Loading} of=${list}>${terminals.length ? html`<${Table} label="Terminals" heads=${HEADS} rows=${terminals.map((one) => ({ key: one.terminalId, cells: cells(one, peer, kill) }))} />` : html`<${Empty}>No terminal is open there.<//>`}<//><${Run} key=${peer} peer=${peer} />`;
}
