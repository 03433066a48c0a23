// What pages do beyond HTML. Every page works without it.
"use strict";

// A form is sent once: a second tap finds its button at rest. The back button makes the page fresh again.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = form.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    return;
  }
  if (form.method !== "post") return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
});

window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-busy");
  }
});

// <div data-events="/api/v1/live/events" hx-trigger="news">: the part is fetched again when something happened.
for (const part of document.querySelectorAll("[data-events]")) {
  let waiting = false;
  const source = new EventSource(part.dataset.events);
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      window.htmx.trigger(part, "news");
    }, 500);
  };
  for (const kind of (part.dataset.kinds || "message").split(" ")) source.addEventListener(kind, refresh);
}
