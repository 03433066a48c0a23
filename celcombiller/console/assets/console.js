// What pages do beyond HTML. Every page works without it.
"use strict";

// A form is sent once: a second tap finds its button at rest. The back button makes the page fresh again.
document.addEventListener("submit", (event) => {
  const form = event.target;
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

// <div data-events="/api/v1/live/events" hx-trigger="news">: the part is fetched again when something happened, but not
// while the reader has a question open in it.
for (const part of document.querySelectorAll("[data-events]")) {
  let waiting = false;
  const source = new EventSource(part.dataset.events);
  const refresh = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      if (part.querySelector("details[open]")) refresh();
      else window.htmx.trigger(part, "news");
    }, 500);
  };
  for (const kind of (part.dataset.kinds || "message").split(" ")) source.addEventListener(kind, refresh);
}

// <div class="chart" data-table="ID">: the days of a table as lines, one for each column whose head has data-line.
for (const place of document.querySelectorAll(".chart[data-table]")) {
  const table = document.getElementById(place.dataset.table);
  const heads = [...table.tHead.rows[0].cells].filter((each) => "line" in each.dataset);
  const rows = [...table.tBodies[0].rows].reverse();
  const days = rows.map((each) => Date.parse(each.querySelector("time").dateTime) / 1000);
  const lines = heads.map((head) => rows.map((each) => Number(each.cells[head.cellIndex].dataset.value)));
  const style = getComputedStyle(place);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = [colour("--pico-primary"), colour("--pico-del-color"), colour("--pico-ins-color")];
  const grid = { stroke: colour("--pico-muted-border-color"), width: 1 };
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);
  const short = new Intl.NumberFormat(language, { notation: "compact" });
  const date = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: "UTC" });
  const write = (seconds) => (seconds == null ? "" : date.format(new Date(seconds * 1000)));
  const axis = { stroke: colour("--pico-color"), grid, ticks: grid };
  const size = () => ({ width: place.clientWidth, height: 240 });
  const chart = new uPlot(
    {
      ...size(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { y: { range: (_chart, _least, most) => [0, Math.max(most, 1) * 1.05] } },
      axes: [
        { ...axis, space: 70, incrs: [1, 2, 7, 14, 31, 92, 366].map((each) => each * 86400), values: (_chart, all) => all.map(write) },
        { ...axis, values: (_chart, all) => all.map((each) => short.format(each)) },
      ],
      series: [
        { label: table.tHead.rows[0].cells[0].textContent, value: (_chart, each) => write(each) },
        ...heads.map((head, place) => ({
          label: head.textContent,
          stroke: colours[place],
          width: 2,
          value: (_chart, each) => (each == null ? "" : number.format(each)),
        })),
      ],
    },
    [days, ...lines],
    place,
  );
  new ResizeObserver(() => chart.setSize(size())).observe(place);
}
