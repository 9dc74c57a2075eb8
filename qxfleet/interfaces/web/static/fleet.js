// The overview: rows are made by the server, kept up to date by the stream of the fleet's changes.

import { age, duration, listen, number } from "./common.js";

const table = document.querySelector("table.fleet tbody");
const rows = new Map([...table.rows].map((row) => [row.dataset.ups, row]));
const FIELDS = [
  ["input", "input.voltage", (v) => number(v, 1)], ["output", "output.voltage", (v) => number(v, 1)],
  ["load", "ups.load", (v) => number(v, 0)], ["charge", "battery.charge", (v) => number(v, 0)],
  ["runtime", "battery.runtime", duration], ["battery", "battery.voltage", (v) => number(v, 1)],
  ["temperature", "ups.temperature", (v) => number(v, 1)],
];
const UNITS = { input: " V", output: " V", load: " %", charge: " %", runtime: "", battery: " V", temperature: " °C" };

function show(ups) {
  const row = rows.get(ups.name);
  if (!row) return location.reload();
  const badge = row.querySelector(".badge");
  const words = ups.words;
  if (badge.textContent !== words || row.dataset.tone !== ups.tone) {
    badge.textContent = words;
    badge.className = "badge " + ups.tone;
    if (row.dataset.tone !== ups.tone) {
      row.classList.remove("flash");
      requestAnimationFrame(() => row.classList.add("flash"));
    }
    row.dataset.tone = ups.tone;
  }
  row.querySelector(".note").textContent = ups.alarms.length ? ups.alarms.join(" ") : ups.state === "online" ? "" : ups.reason;
  row.dataset.at = ups.at || "";
  for (const [field, name, text] of FIELDS) {
    const cell = row.querySelector("." + field);
    const value = ups.state === "online" ? text(ups.values[name]) : "";
    cell.textContent = value && value + UNITS[field];
    cell.classList.toggle("none", !value);
  }
}

function count() {
  const counts = { good: 0, odd: 0, bad: 0, gone: 0 };
  for (const row of rows.values()) counts[row.dataset.tone] += 1;
  for (const tone in counts) document.querySelector(`.counts .${tone} b`).textContent = counts[tone];
}

function ages() {
  for (const row of rows.values()) row.querySelector(".age").textContent = age(row.dataset.at);
}

const words = document.querySelector("#filter");
const group = document.querySelector("#group");
const only = document.querySelector("#only");
function filter() {
  const wanted = words.value.toLowerCase();
  for (const row of rows.values()) {
    const fits = (!wanted || row.dataset.words.includes(wanted)) && (!group.value || row.dataset.groups.split(" ").includes(group.value));
    row.hidden = !fits || (only.checked && row.dataset.tone === "good");
  }
}
for (const each of [words, group, only]) each.addEventListener("input", filter);

listen("/api/v1/fleet/stream", "ups", (news) => {
  if (news.gone.length) return location.reload();
  news.ups.forEach(show);
  count();
  ages();
  filter();
});
setInterval(ages, 5000);
