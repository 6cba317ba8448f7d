// Comforts. Everything works without this file.
"use strict";

const LARGEST_UPLOAD = 20 * 1024 * 1024;
const PATIENCE = 10_000; // milliseconds in which the portal answers, or does not

function prepare(root) {
  for (const box of root.querySelectorAll("[data-tick-all]")) box.hidden = false;
}

document.addEventListener("DOMContentLoaded", () => prepare(document));
document.addEventListener("htmx:afterSwap", () => prepare(document));

// The box in the head ticks all codes of the page.
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-tick-all]")) {
    for (const box of document.querySelectorAll('input[name="id"]')) box.checked = event.target.checked;
  }
  if (event.target.matches('input[type="file"]')) {
    const [file] = event.target.files;
    const hint = document.getElementById("import-hint");
    event.target.setCustomValidity(file && file.size > LARGEST_UPLOAD ? hint.textContent : "");
    event.target.reportValidity();
  }
});

// What keeps this page from being true: "logged-out", "no-answer", or nothing.
function complain(trouble) {
  const place = document.getElementById("trouble");
  if (!place || (place.dataset.says ?? "") === trouble) return;
  place.dataset.says = trouble;
  place.replaceChildren(...(trouble ? [document.querySelector(`[data-trouble="${trouble}"]`).content.cloneNode(true)] : []));
}

// Whether who opened this page is logged in, be it again and elsewhere: that log-in's token goes into the forms here.
async function session() {
  const own = document.querySelector(".who a").textContent;
  const [answer, text] = await fetch("/password", {
    headers: { "HX-Request": "true" },
    signal: AbortSignal.timeout(PATIENCE),
  })
    .then(async (given) => [given, await given.text()])
    .catch(() => []);
  const page = answer?.ok ? new DOMParser().parseFromString(text, "text/html") : null;
  const same = page?.querySelector(".who a")?.textContent === own;
  complain(same ? "" : page || answer?.status === 401 ? "logged-out" : "no-answer");
  if (!same) return false;
  const { value } = page.querySelector("[name=csrf]");
  for (const field of document.querySelectorAll("[name=csrf]")) field.value = value;
  for (const part of refused) window.htmx.trigger(part, "again");
  refused.clear();
  return true;
}

// Nothing that was typed is sent to a portal that would not take it: it would be lost.
const asking = new WeakSet();
const sure = new WeakSet();
document.addEventListener("submit", async (event) => {
  const { target: form, submitter } = event;
  if (event.defaultPrevented || !document.querySelector(".who") || !form.matches("main form[method=post]")) return;
  if (sure.delete(form)) return;
  event.preventDefault();
  if (asking.has(form)) return;
  asking.add(form);
  try {
    if (!(await session())) return;
    sure.add(form);
    form.requestSubmit(submitter);
  } finally {
    asking.delete(form);
    sure.delete(form);
  }
});

// Parts of the page that got nothing because nobody was logged in: those that ask time and again ask on afterwards.
const refused = new Set();
document.addEventListener("htmx:responseError", ({ target, detail: { xhr } }) => {
  if (xhr.status === 401) refused.add(target);
  if ([401, 403].includes(xhr.status)) session();
});

// Parts of the page that the portal tells anew as things happen; only while somebody looks.
const PARTS = ["down", "alert", "figures", "calls"];
const SILENT = 45_000; // the portal ends each stream after 30 s, and says something before
const listening = document.querySelector("[data-events]");
let source = null;
let failures = 0;
let watch = 0;

function show(name, html) {
  for (const place of document.querySelectorAll(`[data-live="${name}"]`)) {
    if (place.told === html) continue;
    place.told = html;
    const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
    place.innerHTML = html;
    window.htmx?.process(place);
    if (focused) document.getElementById(focused)?.focus();
  }
}

function listen() {
  if (!listening || document.hidden || source) return;
  source = new EventSource(listening.dataset.events);
  source.addEventListener("open", () => {
    failures = 0;
    if (document.getElementById("trouble").dataset.says) session();
    heard();
  });
  source.addEventListener("error", lost);
  for (const name of PARTS) {
    source.addEventListener(name, (event) => {
      show(name, event.data);
      heard();
    });
  }
  heard();
}

function heard() {
  clearTimeout(watch);
  watch = setTimeout(lost, SILENT);
}

function hush() {
  clearTimeout(watch);
  source?.close();
  source = null;
}

// The end of a stream is nothing special; no new one afterwards is. Browsers tell no reason, and stop at some.
function lost() {
  hush();
  if (failures++) ask();
  watch = setTimeout(listen, Math.min(500 * 2 ** failures, 30_000));
}

async function ask() {
  const answer = await fetch(listening.dataset.events, { signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
  answer?.body?.cancel();
  if (answer?.ok || source?.readyState === EventSource.OPEN) return;
  const out = answer?.status === 401;
  complain(out ? "logged-out" : "no-answer");
  for (const name of out ? PARTS : ["figures", "calls"]) show(name, "");
}

document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
// Who comes back may have logged in elsewhere: what was refused goes on.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && document.getElementById("trouble")?.dataset.says) session();
});
window.addEventListener("pagehide", hush);
window.addEventListener("pageshow", listen);

// Timers of live calls run here: nothing is sent for a second that passes.
setInterval(() => {
  for (const timer of document.querySelectorAll("[data-seconds]")) {
    timer.began ??= performance.now() - 1000 * timer.dataset.seconds;
    const seconds = Math.floor((performance.now() - timer.began) / 1000);
    const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"));
    const hours = Math.floor(seconds / 3600);
    timer.textContent = hours ? `${hours}:${parts.join(":")}` : parts.join(":").replace(/^0/, "");
  }
}, 250);

// A file that is being made is followed by the page that asked for it: the form itself only downloads.
document.addEventListener("submit", (event) => {
  const { follow } = event.target.dataset;
  if (follow && window.htmx) window.htmx.trigger(follow, "follow");
});

// Escape closes what lies over the page, as it does everywhere else.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const close = document.querySelector("dialog [data-close], .panel a[role=button]");
  if (close) close.click();
});
