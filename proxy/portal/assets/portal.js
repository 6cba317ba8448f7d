// Comforts. Everything works without this file.
"use strict";

const LARGEST_UPLOAD = 20 * 1024 * 1024;

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

// Parts of the page that the portal tells anew as things happen; only while somebody looks.
const listening = document.querySelector("[data-events]");
let source = null;

function listen() {
  if (!listening || document.hidden || source) return;
  source = new EventSource(listening.dataset.events);
  for (const name of ["calls", "figures", "alert"]) {
    source.addEventListener(name, (event) => {
      for (const place of document.querySelectorAll(`[data-live="${name}"]`)) {
        const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
        place.innerHTML = event.data;
        if (focused) document.getElementById(focused)?.focus();
      }
    });
  }
}

function hush() {
  source?.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? hush() : listen()));
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
