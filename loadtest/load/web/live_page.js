"use strict";
// Handles the events of the live page. A message with `run` has the whole run. Any other message updates it.

const byId = (id) => document.getElementById(id);
const UNITS = { 1: "per second", 60: "per minute", 3600: "per hour" };
const ENOUGH = 20; // at the limit's rate, a mean covers about this many requests; with fewer, rates jump
const LONGEST_MEAN_S = 10;

let run = null;
let width = 1;
let tracks = new Map();
let drawn = [];

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const track = (...name) => tracks.get(name.join("\n")) ?? [];
const seconds = (value) => (value >= 3600 ? `${(value / 3600).toFixed(1)} h` : value >= 180 ? `${Math.floor(value / 60)} min ${Math.round(value % 60)} s` : `${Math.round(value)} s`);
const ms = (value) => (value === null || value === undefined ? "–" : value >= 10000 ? `${figureOf(value / 1000)} s` : `${figureOf(value)} ms`);

function takeSeries(series, anew) {
  if (anew) tracks = new Map();
  width = series.width_s;
  for (const [name, values] of series.tracks) {
    if (!values.length) continue;
    const key = name.join("\n");
    const known = tracks.get(key) ?? [];
    const empty = ["requests", "offered"].includes(name[0]) ? 0 : null;
    while (known.length < series.begin) known.push(empty);
    known.length = series.begin;
    known.push(...values);
    tracks.set(key, known);
  }
}

// Rates of the completed buckets, in requests per window of the limit. Each rate is a mean over one or more buckets.
function rates(values, length, flow) {
  const over = Math.max(1, Math.min(Math.round(LONGEST_MEAN_S / width), Math.ceil(ENOUGH / (flow.count / flow.window_s) / width)));
  let sum = 0;
  return Array.from({ length }, (_, place) => {
    sum += (values[place] ?? 0) - (place >= over ? (values[place - over] ?? 0) : 0);
    return (sum / (Math.min(over, place + 1) * width)) * flow.window_s;
  });
}

function flowChart(host, flow, series) {
  const unit = UNITS[flow.window_s] ?? `per ${flow.window_s} s`;
  const lines = [
    ...(flow.begins ? [{ key: "offered", label: "offered", colour: "offered", width: 4 }] : []),
    { key: "sent", label: "sent", colour: "sent", width: 1.2 },
    { key: "accepted", label: "accepted", colour: series, width: 2.4 },
    { key: "throttled", label: "429", colour: "throttled" },
    { key: "failed", label: "failed", colour: "bad", dash: "dashed" },
  ];
  const chart = new Chart(host, {
    title: `${capital(flow.called)} against the ${flow.limit} limit${flow.shared ? ", which other requests use, too" : ""}`,
    unit, lines, limit: { value: flow.count, label: `limit ${figureOf(flow.count)}` },
    edges: flow.edge_s === null ? null : { first: flow.edge_s, every: flow.window_s },
  });
  drawn.push({ chart, columns: (length) => Object.fromEntries(lines.map(({ key }) => [
    key, rates(key === "offered" ? track("offered", flow.traffic) : track("requests", flow.traffic, flow.kind, key), length, flow),
  ])) });
}

function timesChart(host, traffic, series) {
  const lines = [
    { key: "p50", label: "response p50", colour: series, width: 1.4 },
    { key: "p95", label: "p95", colour: series, width: 2.6 },
    { key: "p99", label: "p99", colour: series, width: 1.4, dash: "dashed" },
    { key: "x50", label: "executionTime p50", colour: "muted", width: 1.4 },
    { key: "x95", label: "p95", colour: "muted", width: 2.6 },
  ];
  const chart = new Chart(host, { title: `Times of the last ${seconds(run.percentile_window_s[traffic])}`, unit: "ms", lines });
  drawn.push({ chart, columns: () => ({
    ...Object.fromEntries(["p50", "p95", "p99"].map((key) => [key, track("response_time", traffic, key)])),
    x50: track("execution_time", traffic, "p50"), x95: track("execution_time", traffic, "p95"),
  }) });
}

function gaugeChart(host, title, unit, label, colourName, limit, ...name) {
  const chart = new Chart(host, { title, unit, limit, lines: [{ key: "value", label, colour: colourName }] });
  drawn.push({ chart, columns: () => ({ value: track(...name) }) });
}

function build() {
  drawn.forEach(({ chart }) => chart.remove());
  drawn = [];
  byId("title").textContent = run.title;
  byId("target").textContent = `→ ${run.target}`;
  document.title = `${run.title} · Workflow API, live`;
  const lanes = run.traffic.map(({ name, series, stages }) => {
    const lane = element("div", undefined, { class: "lane" });
    const bar = element("div", undefined, { class: "bar" });
    for (const stage of stages) {
      const minute = (rate) => figureOf(rate * 60);
      const rate = stage.rate === stage.rate_to ? minute(stage.rate) : `${minute(stage.rate)} to ${minute(stage.rate_to)}`;
      const about = stage.burst ? `${stage.name}: a burst of ${stage.burst}` : `${stage.name}: ${rate}/min`;
      const part = element("i", about, { title: `${about}, ${stage.start_s} to ${stage.start_s + stage.duration_s} s` });
      part.className = stage.warmup ? "warmup" : stage.over.length ? "over-limit" : "";
      part.style.setProperty("--tone", `var(--series-${series})`);
      part.dataset.from = stage.start_s;
      part.dataset.to = stage.start_s + stage.duration_s;
      bar.append(part);
    }
    bar.append(element("b"));
    lane.append(element("span", name), bar);
    return lane;
  });
  byId("stages").replaceChildren(...lanes);
  const entries = run.traffic.map(({ name, operation, series }) => {
    const section = element("section", undefined, { "aria-label": name });
    const head = element("h2", `${name} `);
    head.append(element("small", operation));
    const plots = element("div", undefined, { class: "charts" });
    section.append(head, element("dl", undefined, { class: "figures", id: `f-${name}` }), plots);
    run.flows.filter((flow) => flow.traffic === name).forEach((flow) => flowChart(plots, flow, `series-${series}`));
    timesChart(plots, name, `series-${series}`);
    return section;
  });
  byId("entries").replaceChildren(...entries);
  byId("whole").replaceChildren();
  if (run.makes_jobs) gaugeChart(byId("whole"), "Pending jobs", "", "pending", "unsure", null, "pending_jobs");
  gaugeChart(byId("whole"), "Dispatch lag, p99 of the last window", "ms", "p99", "sent", { value: run.dispatch_lag_limit_ms, label: `limit ${run.dispatch_lag_limit_ms}` }, "dispatch_lag", "p99");
  for (const { name, series } of run.traffic) gaugeChart(byId("whole"), `Operations in flight: ${name}`, "", "in flight", `series-${series}`, null, "in_flight", name);
  byId("nothing").hidden = true;
  byId("shown").hidden = false;
}

function figures(entry) {
  const list = document.getElementById(`f-${entry.traffic}`);
  const timed = (name, times) => Object.entries(times).map(([percentile, value]) => [`${name} ${percentile}`, ms(value)]);
  const rows = [
    ["stage", entry.stage || "–"], ["offered", figureOf(entry.offered)], ["in flight", figureOf(entry.in_flight)], ["requests sent", figureOf(entry.sent)],
    ["accepted", figureOf(entry.accepted)], ["got 429", figureOf(entry.got_429), entry.got_429 ? "alarm" : ""],
    ["failed", figureOf(entry.failed), entry.failed ? "bad" : ""], ["timed out", figureOf(entry.timed_out), entry.timed_out ? "bad" : ""],
    ...timed("response", entry.response_time), ...(entry.polled ? [["polled", entry.polled]] : []),
    ...timed("executionTime", entry.execution_time),
    ...(entry.polls_per_job === null ? [] : [["polls per job", figureOf(entry.polls_per_job)]]),
  ];
  list.replaceChildren(...rows.map(([term, value, tone]) => {
    const pair = element("div", undefined, { class: tone ?? "" });
    pair.append(element("dt", term), element("dd", value));
    return pair;
  }));
}

function tables(message) {
  byId("lights").replaceChildren(...message.lights.map((light) => {
    const item = element("li", undefined, { class: light.ok === null ? "" : light.ok ? "good" : light.limit ? "bad" : "bad wide" });
    if (light.limit) item.append(element("small", `${light.name}${light.ok === false ? ": beyond the limit" : ""}`));
    item.append(element("b", light.value), element("small", light.limit));
    return item;
  }));
  byId("s-thresholds").hidden = !(message.thresholds ?? []).length;
  byId("thresholds").replaceChildren(...(message.thresholds ?? []).map((one) => {
    const row = element("tr");
    row.append(element("td", one.scope), element("td", one.text), element("td", one.value || "–"), element("td", one.note, { class: one.judgement }));
    return row;
  }));
  byId("s-budget").hidden = !(message.budget ?? []).length;
  byId("budget").replaceChildren(...(message.budget ?? []).map((one) => {
    const row = element("tr");
    row.append(element("td", one.name), element("td", figureOf(one.used), { class: "n" }), element("td", one.allowed === null ? "no bound" : figureOf(one.allowed), { class: "n" }));
    return row;
  }));
}

function timeline(elapsed) {
  const whole = Math.max(run.scheduled_s, elapsed);
  for (const part of document.querySelectorAll(".bar i")) {
    part.style.left = `${(100 * part.dataset.from) / whole}%`;
    part.style.width = `${(100 * (part.dataset.to - part.dataset.from)) / whole}%`;
  }
  for (const cursor of document.querySelectorAll(".bar b")) cursor.style.left = `min(calc(100% - 2px), ${(100 * elapsed) / whole}%)`;
}

function show(message) {
  const elapsed = message.elapsed_s ?? 0;
  if (message.run) {
    const other = run === null || run.id !== message.run.id || JSON.stringify(run) !== JSON.stringify(message.run);
    run = message.run;
    takeSeries(message.series, true);
    if (other) build();
  } else if (message.series) {
    takeSeries(message.series, false);
  }
  const phase = byId("phase");
  const over = message.phase === "over";
  phase.textContent = run === null ? "waiting" : over ? message.end || "over" : message.phase;
  phase.dataset.phase = message.phase;
  if (run === null) {
    byId("title").textContent = "No test has been started yet";
    byId("nothing").hidden = false;
    return;
  }
  byId("clock").textContent = `${seconds(Math.min(elapsed, run.scheduled_s))} of ${seconds(run.scheduled_s)}${message.phase === "draining" ? `, then up to ${seconds(run.drain_s)} for answers` : ""}`;
  const report = byId("report");
  report.hidden = !message.report;
  if (message.report) report.href = message.report;
  tables(message);
  timeline(elapsed);
  (message.entries ?? []).forEach(figures);
  // The newest bucket is incomplete. With workers, the newest two are, because their reports arrive later.
  const unfinished = (message.lights ?? []).some(({ name }) => name === "workers") ? 2 : 1;
  const whole = Math.max(0, over ? Math.floor(elapsed / width) : track("dispatch_lag", "p99").length - unfinished);
  const t = Array.from({ length: whole }, (_, place) => (place + 1) * width);
  for (const { chart, columns } of drawn) {
    const filled = Object.fromEntries(Object.entries(columns(whole)).map(([key, values]) => [key, Array.from({ length: whole }, (_, place) => values[place] ?? null)]));
    chart.update({ t, ...filled }, elapsed);
  }
}

const events = new EventSource("workflow/events");
events.onmessage = (event) => {
  byId("lost").hidden = true;
  show(JSON.parse(event.data));
};
events.onerror = () => { byId("lost").hidden = false; };
