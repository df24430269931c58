// Files of any machine: look around, download, upload by dropping them, with a bar.
import { useEffect, useRef, useState } from "../vendor/preact.js";
import { ask, at } from "../net.js";
import { address, bytes, Empty, Failure, Field, go, html, lasting, Long, Machine, Time } from "../ui.js";
import { send, tidy, useUploads } from "../uploads.js";

function Upload({ upload }) {
  const share = upload.total ? upload.sent / upload.total : 0;
  const seconds = (Date.now() - (upload.started || Date.now())) / 1000;
  const rate = upload.sent / Math.max(seconds, 0.1);
  const words = upload.error ? upload.error.message : upload.path ? `is at ${upload.path}` : !upload.started ? `waits · ${bytes(upload.total)}` : `${bytes(upload.sent)} of ${bytes(upload.total)} · ${bytes(rate)}/s · ${rate ? lasting(((upload.total - upload.sent) / rate) * 1000) : ""} left`;
  return html`<li class="card"><div class="spread"><strong>${upload.name}</strong>
      ${!upload.path && !upload.error && html`<button type="button" onClick=${upload.cancel}>Cancel</button>`}</div>
    <div class="bar-outer" role="progressbar" aria-label=${`Upload of ${upload.name}`} aria-valuenow=${Math.round(share * 100)} aria-valuemin="0" aria-valuemax="100">
      <div class="bar-inner" style=${{ width: `${share * 100}%` }}></div></div>
    <small class=${upload.error ? "failure" : "dim"}>${words}</small></li>`;
}

function Row({ file, peer, open }) {
  const link = at(peer, `/transfer/file?path=${encodeURIComponent(file.path)}`);
  return html`<div class="two"><span class="line-plain">${file.type === "directory"
      ? html`<button type="button" class="link folder" onClick=${() => open(file.path)}>${file.name}/</button>`
      : file.type === "other" ? html`${file.name} <small>(not a file)</small>` : html`<a href=${link} download=${file.name}>${file.name}</a>`}${file.target ? html` <small>→ ${file.target}</small>` : ""}${file.error ? html` <small>${file.error}</small>` : ""}</span>
    <small class="row">${file.type === "file" ? html`<span>${bytes(file.size)}</span>` : ""}<${Time} at=${file.modified} /></small></div>`;
}

export default function Files({ place }) {
  const peer = place.query.get("on");
  const folder = place.query.get("path") || "~";
  const [typed, setTyped] = useState(folder);
  const [listing, setListing] = useState({ files: null, error: null });
  const uploads = useUploads();
  const arrived = uploads.filter((one) => one.path && one.peer === peer && one.folder === folder).length;
  const [over, setOver] = useState(false);
  const chooser = useRef(null);
  useEffect(() => setTyped(folder), [folder]);
  useEffect(() => setListing({ files: null, error: null }), [folder, peer]);
  useEffect(() => {
    let current = true;
    ask("POST", "/transfer/list", { path: folder }, { peer }).then(
      ({ files }) => current && setListing({ files, error: null }),
      (error) => current && setListing({ files: null, error }),
    );
    return () => (current = false);
  }, [folder, peer, arrived]);
  const open = (path) => go("files", [], { on: peer, path });
  const parent = folder === "~" || folder === "/" ? null : folder.replace(/\/+[^/]*\/*$/, "") || "/";

  const drop = (event) => { event.preventDefault(); setOver(false); send(peer, folder, event.dataTransfer.files); };
  return html`<div class="spread"><h1>Files</h1><div><input type="file" multiple hidden ref=${chooser} aria-label="Files to upload" onChange=${(event) => { send(peer, folder, event.target.files); event.target.value = ""; }} />
      <button type="button" class="primary" onClick=${() => chooser.current.click()}>Upload</button></div></div>
    <div class="row card"><div class="grow"><${Machine} value=${peer} onChange=${(on) => go("files", [], { on })} /></div>
      <form class="grow" onSubmit=${(event) => { event.preventDefault(); open(typed || "~"); }}><${Field} label="Directory"><input value=${typed} onInput=${(event) => setTyped(event.target.value)} /><//></form></div>
    ${uploads.some((one) => one.path || one.error) && html`<button type="button" class="quiet" onClick=${tidy}>Clear what is over</button>`}
    ${uploads.length > 0 && html`<ul class="plain" aria-label="Uploads">${uploads.map((upload) => html`<${Upload} key=${upload.key} upload=${upload} />`)}</ul>`}
    <div class=${over ? "drop over" : "drop"} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${parent !== null && html`<p><a href=${address("files", [], { on: peer, path: parent })}>↑ ${parent}</a></p>`}
      <${Failure} error=${listing.error} />
      ${listing.files && (listing.files.length ? html`<${Long} label="Files" height=${36} items=${listing.files} row=${(file) => html`<${Row} file=${file} peer=${peer} open=${open} />`} />`
        : html`<${Empty}>Nothing is here. Drop files to send them to this directory.<//>`)}
      <p class="dim">Drop files here to upload them to ${folder}.</p></div>`;
}
