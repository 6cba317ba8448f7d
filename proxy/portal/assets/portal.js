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

// Escape closes what lies over the page, as it does everywhere else.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const close = document.querySelector("dialog [data-close], .panel a[role=button]");
  if (close) close.click();
});
