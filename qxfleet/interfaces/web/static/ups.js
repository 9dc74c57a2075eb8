// One UPS: values as they come, charts from the database, orders to it.

import { age, ask, element, listen, number, duration, localTimes } from "./common.js";

const page = document.querySelector("#ups");
const name = page.dataset.ups;
const base = "/api/v1/ups/" + encodeURIComponent(name);
const style = getComputedStyle(document.documentElement);
const colour = (key) => style.getPropertyValue(key).trim();

const CHARTS = [
  { id: "voltage", title: "Voltage", unit: "V", series: [["input.voltage", "Input", "--one"], ["output.voltage", "Output", "--two"]] },
  { id: "load", title: "Load", unit: "%", series: [["ups.load", "Load", "--one"]], range: [0, 100] },
  { id: "battery", title: "Battery voltage", unit: "V", series: [["battery.voltage", "Battery", "--one"]] },
  { id: "charge", title: "Charge and temperature", unit: "% / °C",
    series: [["battery.charge", "Charge", "--one"], ["ups.temperature", "Temperature", "--two"]] },
];
const GAP_S = 150;
let drawn = [];

// Points of several variables on one axis of times; a gap where nothing was stored stays a gap.
function joined(histories) {
  const at = new Map();
  histories.forEach((history, index) => {
    const gap = Math.max(GAP_S, history.every_s * 1.5);
    let before = null;
    for (const point of history.points) {
      const t = Date.parse(point.time) / 1000;
      if (before !== null && t - before > gap) row(at, before + gap / 2)[index] = null;
      row(at, t)[index] = [point.min, point.mean, point.max];
      before = t;
    }
  });
  const times = [...at.keys()].sort((a, b) => a - b);
  const columns = histories.flatMap(() => [[], [], []]);
  for (const t of times) {
    at.get(t).forEach((value, index) => {
      for (let part = 0; part < 3; part++) columns[index * 3 + part].push(value === undefined ? undefined : value && value[part]);
    });
  }
  return [times, ...columns];
}
function row(at, t) {
  if (!at.has(t)) at.set(t, []);
  return at.get(t);
}

function draw(chart, histories, since, until) {
  const box = document.querySelector("#chart-" + chart.id);
  box.replaceChildren();
  if (!histories.some((history) => history.points.length)) {
    box.append(element("p", { className: "soft", textContent: "nothing recorded in this time" }));
    return;
  }
  const data = joined(histories);
  for (const column of data.slice(1)) while (column.length < data[0].length) column.push(undefined);
  const series = [{}];
  const bands = [];
  chart.series.forEach(([variable, label, key], index) => {
    const edge = { show: true, stroke: "transparent", width: 0, points: { show: false } };
    const value = (u, v) => (v === null || v === undefined ? "–" : v.toFixed(1) + " " + histories[index].unit);
    series.push({ ...edge, label: label + " lowest", value }, { label, stroke: colour(key), width: 1.5, points: { show: false }, value },
      { ...edge, label: label + " highest", value });
    bands.push({ series: [index * 3 + 3, index * 3 + 1], fill: colour(key) + "33" });
  });
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const first = Math.max(since / 1000, Math.min(data[0][0], until / 1000 - 60));
  const options = {
    width: box.clientWidth, height: 200, series, bands, legend: { show: true, live: true },
    scales: { x: { min: first, max: until / 1000 }, y: chart.range ? { range: chart.range } : {} },
    axes: [axis, { ...axis, size: 48 }], cursor: { sync: { key: "ups" } },
  };
  drawn.push([box, new uPlot(options, data, box)]);
}

async function charts(since) {
  drawn.forEach(([, plot]) => plot.destroy());
  drawn = [];
  const until = Date.now();
  const length = { h: 3600, d: 86400 }[since.slice(-1)] * parseInt(since) * 1000;
  for (const chart of CHARTS) {
    const histories = await Promise.all(chart.series.map(([variable]) => ask(`${base}/history/${variable}?since=${since}`).catch(
      () => ({ points: [], every_s: 0, unit: "" }))));
    draw(chart, histories, until - length, until);
  }
}
addEventListener("resize", () => drawn.forEach(([box, plot]) => plot.setSize({ width: box.clientWidth, height: 200 })));
for (const button of document.querySelectorAll("[data-since]")) {
  button.addEventListener("click", () => {
    document.querySelectorAll("[data-since]").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
    charts(button.dataset.since);
  });
}

const CELLS = { "input.voltage": [1, " V"], "output.voltage": [1, " V"], "ups.load": [0, " %"], "battery.charge": [0, " %"],
  "battery.voltage": [1, " V"], "ups.temperature": [1, " °C"] };
let at = page.dataset.at;

async function variables() {
  const found = await ask(base + "/variables");
  const body = document.querySelector("#variables tbody");
  body.replaceChildren(...Object.entries(found.variables).map(([each, value]) => element("tr", {},
    element("td", {}, element("code", { textContent: each })),
    element("td", { className: "number", textContent: value.text + (value.unit && " " + value.unit) }),
    element("td", { className: "soft", textContent: value.origin === "measured" ? "" : value.origin }),
    element("td", { className: "soft", textContent: value.description }))));
}

listen("/api/v1/fleet/stream", "ups", (news) => {
  const ups = news.ups.find((each) => each.name === name);
  if (!ups) return;
  const badge = document.querySelector("#status");
  badge.textContent = ups.words;
  badge.className = "badge " + ups.tone;
  document.querySelector("#note").textContent = ups.alarms.length ? ups.alarms.join(" ") : ups.reason;
  at = ups.at;
  for (const cell of document.querySelectorAll("[data-value]")) {
    const key = cell.dataset.value, value = ups.state === "online" ? ups.values[key] : undefined;
    cell.textContent = value === undefined ? "–" : key === "battery.runtime" ? duration(value) : number(value, CELLS[key][0]) + CELLS[key][1];
  }
  ages();
  if (document.querySelector("#all").open) variables();
});
function ages() {
  document.querySelector("#age").textContent = at ? "last reading " + age(at) : "no reading yet";
}
setInterval(ages, 5000);
document.querySelector("#all").addEventListener("toggle", (event) => event.target.open && variables());

const said = document.querySelector("#said");
async function order(what, path, options) {
  said.className = "notice";
  said.hidden = false;
  said.textContent = what + ": waiting for the UPS…";
  try {
    const ended = await ask(path, options);
    said.textContent = `${what}: ${ended.outcome}${ended.text ? ", " + ended.text : ""}`;
    said.classList.toggle("bad", ended.outcome !== "accepted");
  } catch (error) {
    said.textContent = `${what}: ${error.message}`;
    said.classList.add("bad");
  }
}
for (const form of document.querySelectorAll("form[data-command]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const { command, hazard } = form.dataset;
    if (hazard === "load" && prompt(`${command} may cut the power of everything behind ${name}. Type the name of the UPS to go on:`) !== name) return;
    if (hazard === "battery" && !confirm(`${command} on ${name}: it runs on its battery meanwhile. Go on?`)) return;
    const field = form.querySelector("input");
    const body = field && field.value ? JSON.stringify({ value: Number(field.value) }) : undefined;
    order(command, `${base}/commands/${command}`, { method: "POST", body });
  });
}
for (const form of document.querySelectorAll("form[data-setting]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const value = form.querySelector("input, select").value;
    order(`${form.dataset.setting} = ${value}`, `${base}/settings/${form.dataset.setting}`, { method: "PUT", body: JSON.stringify({ value }) });
  });
}

charts("24h");
ages();
localTimes();
