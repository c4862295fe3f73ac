"use strict";
// An SVG chart of lines over time, with a legend and a table of the values. Texts are never parsed as markup.

const ROWS = 120;
const DASHES = { dashed: "6 4", dotted: "2 3" };
// Sizes in px. The left margin depends on the width of the labels beside the value axis.
const HEIGHT = 190, ABOVE = 8, BELOW = 22, RIGHT = 12, PER_DIGIT = 6.5, APART = 75;
// Seconds between ticks; longer intervals are whole days.
const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200];

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function shape(name, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A path in a line's colour, which follows the page's theme.
function stroke(line, d = "") {
  const path = shape("path", { d, class: "line" });
  path.style.stroke = `var(--${line.colour})`;
  path.style.strokeWidth = String(line.width ?? 2);
  if (line.dash) Object.assign(path.style, { strokeDasharray: DASHES[line.dash], strokeLinecap: "butt" });
  return path;
}

function figureOf(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function timeOf(value) {
  const [unit, length] = value % 60 || !value ? ["s", 1] : value % 3600 ? ["min", 60] : ["h", 3600];
  return `${figureOf(value / length)} ${unit}`;
}

function swatch(line) {
  const svg = shape("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" });
  svg.append(stroke({ ...line, width: 1.6 * (line.width ?? 2) }, "M0 5H30"));
  return svg;
}

// An axis from 0 with a maximum number of ticks. Its end is a multiple of a fifth of the step, so it seldom changes.
function axis(end, most, steps) {
  const least = end / Math.max(1, most), power = 10 ** Math.floor(Math.log10(least));
  const step = (steps ?? [power, 2 * power, 5 * power, 10 * power]).find((each) => each >= least) ?? 86400 * Math.ceil(least / 86400);
  const last = (Math.ceil((5 * end) / step) * step) / 5;
  return { last, ticks: Array.from({ length: Math.floor(last / step + 1e-9) + 1 }, (_, place) => place * step) };
}

// A path through the values, with gaps where values are missing. Of every `per` values, it shows the lowest and the highest.
function pathOf(t, values, per, x, y) {
  let d = "", open = false;
  for (let begin = 0; begin < t.length; begin += per) {
    let low = -1, high = -1;
    for (let place = begin; place < Math.min(begin + per, t.length); place++) {
      if (values[place] === null) continue;
      if (low < 0 || values[place] < values[low]) low = place;
      if (high < 0 || values[place] >= values[high]) high = place;
    }
    const ends = low < 0 ? [] : low === high ? [low] : [Math.min(low, high), Math.max(low, high)];
    for (const place of ends) {
      const to = `${Math.round(10 * x(t[place])) / 10} ${Math.round(10 * y(values[place])) / 10}`;
      d += open ? `L${to}` : `M${to}h0`; // a single value is a dot
      open = true;
    }
    if (!ends.length) open = false;
  }
  return d;
}

function tick(x, y, text, anchor) {
  const label = shape("text", { x, y, "text-anchor": anchor });
  label.textContent = text;
  return label;
}

// options: title, unit, lines [{key, label, colour, width, dash}], limit {value, label}, edges {first, every}
class Chart {
  constructor(host, options) {
    this.options = options;
    this.data = { t: [] };
    this.shown = false;
    this.figure = element("figure");
    const heading = options.unit ? `${options.title}, ${options.unit}` : options.title;
    const legend = element("ul", undefined, { class: "legend" });
    const bound = options.limit ? [{ label: options.limit.label, colour: "ink", width: 1, dash: "dashed" }] : [];
    const edges = options.edges ? [{ label: "window begins", colour: "muted", width: 1, dash: "dotted" }] : [];
    for (const line of [...options.lines, ...bound, ...edges]) {
      const item = element("li", line.label);
      item.prepend(swatch(line));
      legend.append(item);
    }
    this.plot = element("div", undefined, { class: "plot", role: "img", "aria-label": heading });
    this.make();
    this.details = element("details");
    this.table = element("table");
    const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${options.title}` });
    scroll.append(this.table);
    this.details.append(element("summary", `Table: ${options.title}`), scroll);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.figure.append(element("h3", heading), legend, this.plot, this.details);
    host.append(this.figure);
    this.plot.addEventListener("pointermove", (event) => this.point(event.clientX));
    this.plot.addEventListener("pointerdown", (event) => this.point(event.clientX));
    this.plot.addEventListener("pointerleave", () => this.point(null));
    // A hidden chart is not drawn.
    this.observer = new IntersectionObserver(([entry]) => {
      this.shown = entry.isIntersecting;
      this.draw();
    }, { rootMargin: "300px" });
    this.observer.observe(this.plot);
    this.resized = new ResizeObserver(([entry]) => {
      this.width = entry.contentRect.width;
      this.draw();
    });
    this.resized.observe(this.plot);
  }

  make() {
    const { lines, limit, edges } = this.options;
    const svg = shape("svg", { height: HEIGHT });
    this.ticks = shape("g", { class: "ticks" });
    this.grid = shape("path", { class: "grid" });
    this.edges = stroke({ colour: "muted", width: 1, dash: "dotted" });
    this.limit = stroke({ colour: "ink", width: 1, dash: "dashed" });
    this.cursor = stroke({ colour: "muted", width: 1 });
    this.paths = lines.map((line) => stroke(line));
    const series = shape("g", { class: "series" });
    series.append(...this.paths);
    svg.append(this.grid, this.ticks, this.cursor, ...(edges ? [this.edges] : []), ...(limit ? [this.limit] : []), series);
    this.tip = element("div", undefined, { class: "tip", hidden: "" });
    this.figures = ["second", ...lines.map((line) => line.label)].map((label, place) => {
      const row = element("div", `${label} `), figure = element("b");
      if (place) row.prepend(swatch(lines[place - 1]));
      row.append(figure);
      this.tip.append(row);
      return figure;
    });
    this.plot.append(svg, this.tip);
  }

  // data: {t, and a column for each line}
  update(data, end) {
    this.data = data;
    this.end = end;
    this.draw();
    this.fillTable();
  }

  draw() {
    if (!this.shown || document.hidden || this.end === undefined || !this.width) return;
    const { lines, limit, edges } = this.options;
    const { t } = this.data;
    const below = HEIGHT - BELOW;
    let top = 0;
    for (const { key } of lines) for (const value of this.data[key]) if (value > top) top = value;
    if (limit && limit.value < 2 * top) top = Math.max(top, limit.value);
    const values = axis(1.02 * top || 1, 5);
    const labels = values.ticks.map(figureOf);
    const left = 10 + PER_DIGIT * Math.max(...labels.map((label) => label.length));
    const right = Math.max(left + 1, this.width - RIGHT);
    const times = axis(Math.max(10, this.end), (right - left) / APART, TIMES);
    const x = (at) => left + ((right - left) * at) / times.last;
    const y = (value) => below - ((below - ABOVE) * value) / values.last;
    this.x = x;
    const drawn = [this.width, values.last, times.last, labels.length].join();
    if (drawn !== this.drawn) {
      this.drawn = drawn;
      this.grid.setAttribute("d", values.ticks.map((at) => `M${left} ${y(at)}H${right}`).join("") + times.ticks.map((at) => `M${x(at)} ${ABOVE}V${below}`).join(""));
      this.ticks.replaceChildren(...values.ticks.map((at, place) => tick(left - 6, y(at) + 4, labels[place], "end")), ...times.ticks.map((at) => tick(x(at), HEIGHT - 6, timeOf(at), at ? "middle" : "start")));
      this.limit.setAttribute("d", limit && limit.value <= values.last ? `M${left} ${y(limit.value)}H${right}` : "");
    }
    if (edges) {
      let d = "";
      // In a long run, some edges are left out, so that the others stay distinct.
      const step = edges.every * Math.max(1, Math.ceil(this.end / edges.every / 30));
      for (let at = edges.first; at < this.end; at += step) d += `M${x(at)} ${ABOVE}V${below}`;
      this.edges.setAttribute("d", d);
    }
    // Of all values within two pixels, only the highest and the lowest are shown.
    const per = Math.ceil(t.length / ((right - left) / 2));
    lines.forEach(({ key }, place) => this.paths[place].setAttribute("d", pathOf(t, this.data[key], per, x, y)));
    this.point(this.pointer);
  }

  // Shows the lines' values at the time (in whole seconds) that is nearest to the pointer.
  point(pointer) {
    this.pointer = pointer ?? null;
    const { t } = this.data;
    this.tip.hidden = this.pointer === null || !t.length || !this.x;
    if (this.tip.hidden) {
      this.cursor.setAttribute("d", "");
      return;
    }
    const at = this.pointer - this.plot.getBoundingClientRect().left;
    let place = 0;
    while (place + 1 < t.length && Math.abs(this.x(t[place + 1]) - at) <= Math.abs(this.x(t[place]) - at)) place++;
    const x = this.x(t[place]);
    this.cursor.setAttribute("d", `M${x} ${ABOVE}V${HEIGHT - BELOW}`);
    this.figures.forEach((figure, row) => { figure.textContent = figureOf(row ? this.data[this.options.lines[row - 1].key][place] : t[place]); });
    this.tip.style.left = x < this.width / 2 ? `${x + 10}px` : "";
    this.tip.style.right = x < this.width / 2 ? "" : `${this.width - x + 10}px`;
  }

  fillTable() {
    if (!this.details.open) return;
    const head = element("tr");
    head.append(element("th", "second", { scope: "col", class: "n" }));
    for (const line of this.options.lines) head.append(element("th", line.label, { scope: "col", class: "n" }));
    const body = element("tbody");
    const { t } = this.data;
    for (let place = t.length - 1; place >= Math.max(0, t.length - ROWS); place--) {
      const row = element("tr");
      row.append(element("td", figureOf(t[place]), { class: "n" }));
      for (const line of this.options.lines) row.append(element("td", figureOf(this.data[line.key][place]), { class: "n" }));
      body.append(row);
    }
    const top = element("thead");
    top.append(head);
    this.table.replaceChildren(element("caption", t.length > ROWS ? `The newest ${ROWS} of ${t.length}.` : ""), top, body);
  }

  remove() {
    this.observer.disconnect();
    this.resized.disconnect();
    this.figure.remove();
  }
}
