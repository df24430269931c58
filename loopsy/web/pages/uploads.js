// Files on their way from this browser: they go on while one looks at something else.
import { useEffect, useState } from "./vendor/preact.js";
import { ApiError, at } from "./net.js";
import { tell } from "./ui.js";

const AT_ONCE = 2; // browsers hold six connections to one host, over all tabs: the page itself needs some
let uploads = []; // newest first: { key, name, peer, folder, sent, total, started, path, error, cancel }
let pushing = 0;
const waiting = [];
const watchers = new Set();

const changed = () => watchers.forEach((watcher) => watcher(uploads));
const change = (key, news) => {
  uploads = uploads.map((one) => (one.key === key ? { ...one, ...news } : one));
  changed();
};
const joined = (folder, name) => (folder.endsWith("/") ? folder + name : `${folder}/${name}`);

// Not fetch: only XMLHttpRequest tells how much of a body has left.
function push(peer, folder, file, onProgress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", at(peer, "/transfer/push"));
    request.upload.onprogress = (event) => onProgress(Math.min(event.loaded, file.size));
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

function begin(key, peer, folder, file) {
  const { done, cancel } = push(peer, folder, file, (sent) => change(key, { sent }));
  change(key, { cancel, started: Date.now() });
  return done.then(
    ({ path, size }) => { change(key, { path, sent: size }); tell(`${file.name} has arrived`, "good"); },
    (error) => change(key, { error }),
  );
}

function next() {
  while (pushing < AT_ONCE && waiting.length) {
    pushing += 1;
    waiting.shift().start().finally(() => { pushing -= 1; next(); });
  }
}

/** Send files to a directory of a machine. */
export function send(peer, folder, files) {
  for (const file of files) {
    const key = crypto.randomUUID();
    const entry = { start: () => begin(key, peer, folder, file) };
    const cancel = () => {
      waiting.splice(waiting.indexOf(entry), 1);
      change(key, { error: new ApiError(0, { message: "cancelled before it began" }) });
    };
    uploads = [{ key, name: file.name, peer, folder, sent: 0, total: file.size, started: null, cancel }, ...uploads];
    waiting.push(entry);
  }
  changed();
  next();
}

/** Forget those that are over. */
export function tidy() {
  uploads = uploads.filter((one) => !one.path && !one.error);
  changed();
}

/** All of them, as they go. */
export function useUploads() {
  const [shown, show] = useState(uploads);
  useEffect(() => {
    watchers.add(show);
    show(uploads);
    return () => watchers.delete(show);
  }, []);
  return shown;
}

addEventListener("beforeunload", (event) => {
  if (pushing) event.preventDefault(); // the browser asks whether to leave: that would end them
});
