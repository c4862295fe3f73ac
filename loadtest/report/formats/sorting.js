// A click on a column's head sorts its table: ascending, then descending, then in the original order.
// Sections unfold for printing and for links to their content, in browsers that do not do so themselves.
"use strict";
(() => {
  const unit = { "ms": 1, "s": 1000, "/min": 1, "/s": 60, "/h": 1 / 60 };
  // "≥ 1,234 ms" -> 1234; in ascending order, texts without a number come last.
  const number = (text) => {
    const found = text.replace(/[,\u00a0 ]/g, "").replace("−", "-").match(/[-+]?\d[\d.]*(?:e[-+]?\d+)?/);
    if (!found) return NaN;
    const after = text.trim().match(/(ms|s|\/min|\/s|\/h)$/);
    return parseFloat(found[0]) * (after ? unit[after[1]] : 1);
  };
  const words = (row, place) => (row.cells[place].firstChild ? row.cells[place].firstChild.textContent : "").trim();
  const compare = (place, numeric) => (a, b) => {
    const [x, y] = [words(a, place), words(b, place)];
    if (!numeric) return x.localeCompare(y);
    const [m, n] = [number(x), number(y)];
    if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n);
    return m - n;
  };
  for (const table of document.querySelectorAll("table")) {
    const body = table.tBodies[0], first = [...body.rows], heads = [...table.tHead.rows[0].cells];
    if (first.length < 3) continue;
    heads.forEach((head, place) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" }[head.ariaSort || "none"];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        // Rows without a name share the name above. Copy the name into each row before sorting.
        first.forEach((row, k) => {
          const cell = row.cells[0];
          if (k && "above" in cell.dataset) cell.replaceWith(first[k - 1].cells[0].cloneNode(true));
        });
        let rows = [...first];
        if (next !== "none") {
          head.setAttribute("aria-sort", next);
          rows.sort(compare(place, head.classList.contains("n")));
          if (next === "descending") rows.reverse();
        }
        body.append(...rows);
      });
    });
  }
  const folded = () => [...document.querySelectorAll("details.section:not([open])")];
  let unfolded = [];
  addEventListener("beforeprint", () => { unfolded = folded(); unfolded.forEach((one) => { one.open = true; }); });
  addEventListener("afterprint", () => { unfolded.forEach((one) => { one.open = false; }); });
  const reveal = () => {
    const aim = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const around = aim && aim.closest("details.section:not([open])");
    if (around) { around.open = true; aim.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
