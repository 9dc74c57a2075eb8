// Events: those that were come with the page, those that come are put on top.

import { element, listen, time, localTimes } from "./common.js";

const body = document.querySelector("#events tbody");
const TONES = ["gone", "gone", "odd", "bad"];
const MOST = 1000;
const last = document.querySelector("#events").dataset.last;

listen("/api/v1/events/stream" + (last ? "?after=" + last : ""), "event", (event) => {
  const row = element("tr", { className: "flash" },
    element("td", {}, time(event.time)),
    element("td", {}, event.ups ? element("a", { href: "/ups/" + encodeURIComponent(event.ups), textContent: event.ups }) : "agent"),
    element("td", {}, element("span", { className: "badge " + TONES[event.severity], textContent: event.name })),
    element("td", { textContent: event.value }),
    element("td", { className: "wide", textContent: event.text }));
  body.prepend(row);
  localTimes(row);
  while (body.rows.length > MOST) body.lastElementChild.remove();
});
