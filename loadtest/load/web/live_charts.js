"use strict";
// A chart of lines over time, drawn by Bokeh, with its legend and the table behind it. Texts are text, never markup.

const ROWS = 120;
const DASHES = { dashed: "6 4", dotted: "2 3" }; // as Bokeh draws them
const charts = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");
dark.addEventListener("change", () => charts.forEach((chart) => chart.paint()));

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function figureOf(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const digits = Math.abs(value) >= 100 || Number.isInteger(value) ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function swatch(line) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 30 10");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M0 5H30");
  path.style.stroke = `var(--${line.colour})`;
  path.style.strokeWidth = String(1.6 * (line.width ?? 2));
  if (line.dash) path.style.strokeDasharray = DASHES[line.dash];
  svg.append(path);
  return svg;
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
    this.details = element("details");
    this.table = element("table");
    const scroll = element("div", undefined, { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${options.title}` });
    scroll.append(this.table);
    this.details.append(element("summary", `Table: ${options.title}`), scroll);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.figure.append(element("h3", heading), legend, this.plot, this.details);
    host.append(this.figure);
    this.make();
    charts.add(this);
    // What nobody sees is not drawn.
    this.observer = new IntersectionObserver(([entry]) => {
      this.shown = entry.isIntersecting;
      this.draw();
    }, { rootMargin: "300px" });
    this.observer.observe(this.plot);
  }

  make() {
    const { lines, limit, edges } = this.options;
    this.source = new Bokeh.ColumnDataSource({ data: Object.fromEntries(["t", ...lines.map((line) => line.key)].map((key) => [key, []])) });
    this.range = new Bokeh.Range1d({ start: 0, end: 30 });
    this.model = Bokeh.Plotting.figure({
      height: 190, sizing_mode: "stretch_width", tools: "", toolbar_location: null, x_range: this.range,
      y_range: new Bokeh.DataRange1d({ start: 0, only_visible: true }), min_border_right: 8, output_backend: "canvas",
      // What is painted would stay at the edges when the theme changes.
      background_fill_color: null, border_fill_color: null, outline_line_color: null,
    });
    this.painters = [];
    if (edges) {
      this.edges = new Bokeh.ColumnDataSource({ data: { x: [] } });
      const drawn = this.model.vspan({ field: "x" }, { source: this.edges, line_dash: "dotted" });
      this.painters.push(() => { drawn.glyph.line_color = colour("muted"); });
    }
    if (limit) {
      const span = new Bokeh.Span({ location: limit.value, dimension: "width", line_dash: "dashed" });
      this.model.add_layout(span);
      this.painters.push(() => { span.line_color = colour("ink"); });
    }
    const drawn = lines.map((line) => {
      const renderer = this.model.line({ field: "t" }, { field: line.key }, {
        source: this.source, line_width: line.width ?? 2, line_dash: line.dash ?? "solid", line_join: "round",
      });
      this.painters.push(() => { renderer.glyph.line_color = colour(line.colour); });
      return renderer;
    });
    this.model.add_tools(new Bokeh.HoverTool({
      mode: "vline", renderers: drawn.slice(0, 1), line_policy: "nearest",
      tooltips: [["second", "@t{0}"], ...lines.map((line) => [line.label, `@{${line.key}}{0,0.[0]}`])],
    }));
    this.paint();
    Bokeh.Plotting.show(this.model, this.plot);
  }

  paint() {
    const { model } = this;
    for (const paint of this.painters) paint();
    for (const axis of [...model.xaxes, ...model.yaxes]) {
      axis.major_label_text_color = colour("muted");
      axis.axis_line_color = axis.major_tick_line_color = colour("rule");
      axis.minor_tick_line_color = null;
    }
    for (const grid of [...model.xgrids, ...model.ygrids]) grid.grid_line_color = colour("grid");
  }

  // data: {t, and a column for each line}
  update(data, end) {
    this.data = data;
    this.end = end;
    this.draw();
    this.fillTable();
  }

  draw() {
    if (!this.shown || document.hidden || this.end === undefined) return;
    this.range.end = Math.max(10, this.end);
    if (this.edges) {
      const { first, every } = this.options.edges;
      const x = [];
      // Of a long run, so many that they can be told apart.
      const step = every * Math.max(1, Math.ceil(this.end / every / 30));
      for (let at = first; at < this.end; at += step) x.push(at);
      this.edges.data = { x };
    }
    this.source.data = Object.fromEntries(
      Object.entries(this.data).map(([key, values]) => [key, values.map((value) => value ?? NaN)]),
    );
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
    charts.delete(this);
    this.model.document?.clear();
    this.figure.remove();
  }
}
