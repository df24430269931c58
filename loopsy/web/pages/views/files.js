// Files of any machine: look around, download, upload by dropping them, with a bar.
import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ApiError, ask, at } from "../net.js";
import { address, bytes, Empty, Failure, Field, go, html, lasting, Long, Machine, tell, Time } from "../ui.js";

const joined = (folder, name) => (folder.endsWith("/") ? folder + name : `${folder}/${name}`);

// Not fetch: only XMLHttpRequest tells how much of a body has left.
function push(peer, folder, file, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", at(peer, "/transfer/push"));
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => {
      let answer = null;
      try { answer = JSON.parse(request.responseText); } catch { /* the status says enough */ }
      if (request.status < 300) resolve(answer);
      else reject(new ApiError(request.status, answer?.error));
    };
    request.onerror = () => reject(new ApiError(0, { message: "the connection broke: nothing of this file was kept" }));
    request.onabort = () => reject(new ApiError(0, { message: "cancelled: nothing of this file was kept" }));
    const form = new FormData();
    form.append("destPath", joined(folder, file.name));
    form.append("file", file, file.name);
    request.send(form);
  });
  return { done, cancel: () => request.abort() };
}

function Upload({ upload }) {
  const share = upload.total ? upload.sent / upload.total : 0;
  const seconds = (Date.now() - upload.started) / 1000;
  const rate = upload.sent / Math.max(seconds, 0.1);
  const words = upload.error ? upload.error.message : upload.path ? `is at ${upload.path}` : `${bytes(upload.sent)} of ${bytes(upload.total)} · ${bytes(rate)}/s · ${rate ? lasting(((upload.total - upload.sent) / rate) * 1000) : ""} left`;
  return html`<li class="card"><div class="spread"><strong>${upload.name}</strong>
      ${!upload.path && !upload.error && html`<button type="button" onClick=${upload.cancel}>Cancel</button>`}</div>
    <div class="bar-outer" role="progressbar" aria-label=${`Upload of ${upload.name}`} aria-valuenow=${Math.round(share * 100)} aria-valuemin="0" aria-valuemax="100">
      <div class="bar-inner" style=${{ width: `${share * 100}%` }}></div></div>
    <small class=${upload.error ? "failure" : "dim"}>${words}</small></li>`;
}

function Row({ file, peer, open }) {
  const icon = { directory: "📁", symlink: "↪", file: "📄" }[file.type] || "?";
  const link = at(peer, `/transfer/file?path=${encodeURIComponent(file.path)}`);
  return html`<div class="spread"><span class="grow line-plain"><span aria-hidden="true">${icon}</span> ${file.type === "directory"
      ? html`<button type="button" class="link" onClick=${() => open(file.path)}>${file.name}</button>`
      : html`<a href=${link} download=${file.name}>${file.name}</a>`}${file.target ? html` <small>→ ${file.target}</small>` : ""}${file.error ? html` <small>${file.error}</small>` : ""}</span>
    <small class="row">${file.type === "file" ? html`<span>${bytes(file.size)}</span>` : ""}<${Time} at=${file.modified} /></small></div>`;
}

export default function Files({ place }) {
  const peer = place.query.get("on");
  const folder = place.query.get("path") || "~";
  const [typed, setTyped] = useState(folder);
  const [listing, setListing] = useState({ files: null, error: null });
  const [uploads, setUploads] = useState([]);
  const [over, setOver] = useState(false);
  const [asked, askAgain] = useState(0);
  const chooser = useRef(null);
  useEffect(() => setTyped(folder), [folder]);
  useEffect(() => {
    let current = true;
    ask("POST", "/transfer/list", { path: folder }, { peer }).then(
      ({ files }) => current && setListing({ files, error: null }),
      (error) => current && setListing({ files: null, error }),
    );
    return () => (current = false);
  }, [folder, peer, asked]);
  const open = (path) => go("files", [], { on: peer, path });
  const parent = folder === "~" || folder === "/" ? null : folder.replace(/\/+[^/]*\/*$/, "") || "/";

  const send = (chosen) => {
    for (const file of chosen) {
      const key = Math.random();
      const change = (news) => setUploads((all) => all.map((one) => (one.key === key ? { ...one, ...news } : one)));
      const pushing = push(peer, folder, file, (sent, total) => change({ sent, total }));
      setUploads((all) => [{ key, name: file.name, sent: 0, total: file.size, started: Date.now(), cancel: pushing.cancel }, ...all].slice(0, 50));
      pushing.done.then(
        ({ path, size }) => { change({ path, sent: size, total: size }); askAgain((count) => count + 1); tell(`${file.name} has arrived`, "good"); },
        (error) => change({ error }),
      );
    }
  };
  const drop = (event) => { event.preventDefault(); setOver(false); send(event.dataTransfer.files); };
  return html`<div class="spread"><h1>Files</h1><div><input type="file" multiple hidden ref=${chooser} aria-label="Files to upload" onChange=${(event) => { send(event.target.files); event.target.value = ""; }} />
      <button type="button" class="primary" onClick=${() => chooser.current.click()}>Upload</button></div></div>
    <div class="row card"><div class="grow"><${Machine} value=${peer} onChange=${(on) => go("files", [], { on })} /></div>
      <form class="grow" onSubmit=${(event) => { event.preventDefault(); open(typed || "~"); }}><${Field} label="Directory"><input value=${typed} onInput=${(event) => setTyped(event.target.value)} /><//></form></div>
    ${uploads.length > 0 && html`<ul class="plain" aria-label="Uploads">${uploads.map((upload) => html`<${Upload} key=${upload.key} upload=${upload} />`)}</ul>`}
    <div class=${over ? "drop over" : "drop"} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${parent !== null && html`<p><a href=${address("files", [], { on: peer, path: parent })}>↑ ${parent}</a></p>`}
      <${Failure} error=${listing.error} />
      ${listing.files && (listing.files.length ? html`<${Long} label="Files" height=${36} items=${listing.files} row=${(file) => html`<${Row} file=${file} peer=${peer} open=${open} />`} />`
        : html`<${Empty}>Nothing is here. Drop files to send them to this directory.<//>`)}
      <p class="dim">Drop files here to upload them to ${folder}.</p></div>`;
}
