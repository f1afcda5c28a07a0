// What all pages do: data files, theme, sorting, copying, state in the URL, and drawing of figures.
// A classic script: browsers load no modules from the disk.
"use strict";
window.site = (() => {
  const charts = {}; // kind: (figure, data) => element to show
  const files = {}; // name: {promise, resolve}

  function file(name) {
    if (!files[name]) {
      const known = {};
      known.promise = new Promise((resolve, reject) => Object.assign(known, { resolve, reject }));
      files[name] = known;
    }
    return files[name];
  }

  /** Called by a data file. */
  function data(name, content) {
    file(name).resolve(content);
  }

  /** A promise of the content of data/NAME.js, which is loaded once. */
  function load(name) {
    const known = file(name);
    if (!known.asked) {
      known.asked = true;
      const script = document.createElement("script");
      script.src = `data/${encodeURIComponent(name)}.js`;
      script.onerror = () => known.reject(new Error(`${script.src} cannot be read`));
      document.head.append(script);
    }
    return known.promise;
  }

  // --- state in the URL: #key=value&key=value, so that a link restores the view

  const state = {
    all() {
      const text = location.hash.slice(1);
      return text.includes("=") ? new URLSearchParams(text) : new URLSearchParams();
    },
    get(key) {
      return this.all().get(key);
    },
    /** Set some keys; null removes one. */
    set(values) {
      const all = this.all();
      for (const [key, value] of Object.entries(values)) {
        if (value === null || value === "") all.delete(key);
        else all.set(key, value);
      }
      history.replaceState(null, "", `#${all}`);
    },
  };

  // --- numbers, as perf/publish/numbers.py writes them

  const PREFIXES = {
    seconds: [[1, "s"], [1e-3, "ms"], [1e-6, "\u00b5s"], [1e-9, "ns"]],
    bytes: [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]],
  };

  /** The size of a value to the three figures that are shown: 999.9 microseconds are 1.00 ms. */
  const rounded = (value) => Number(Math.abs(value).toPrecision(3));

  /** The factor and the name of the unit in which a value has one to three digits before the point. */
  function scale(value, of) {
    const [known, shown] = [PREFIXES[of], rounded(value)];
    return known ? known.find(([factor]) => shown >= factor) ?? known.at(-1) : [1, of];
  }

  function figures(value) {
    if (!Number.isFinite(value)) return "-";
    const digits = value === 0 ? 0 : Math.max(0, 2 - Math.floor(Math.log10(rounded(value))));
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  }

  function measured(value, of) {
    const [factor, prefixed] = scale(value, of);
    return `${figures(value / factor)} ${prefixed}`;
  }

  function percent(ratio) {
    const change = 100 * (ratio - 1);
    if (ratio >= 10) return `${figures(ratio)} times`;
    const text = change.toFixed(Math.abs(change) >= 10 ? 0 : 1);
    return `${text.startsWith("-") ? "" : "+"}${text} %`;
  }

  // --- theme

  function remembered(value) {
    try {
      if (value !== undefined) localStorage.setItem("theme", value);
      return localStorage.getItem("theme");
    } catch {
      return null; // Storage may be forbidden: the system's theme is shown.
    }
  }

  function theme() {
    const root = document.documentElement;
    const button = document.createElement("button");
    button.type = "button";
    const dark = () =>
      (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const name = () => (button.textContent = dark() ? "Light theme" : "Dark theme");
    button.onclick = () => {
      root.dataset.theme = dark() ? "light" : "dark";
      remembered(root.dataset.theme);
      name();
    };
    name();
    document.querySelector("header").append(button);
  }

  // --- sorting

  function key(cell) {
    const text = cell?.dataset.sort ?? cell?.textContent.trim() ?? "";
    const number = Number(text.replaceAll(",", ""));
    return text === "" || Number.isNaN(number) ? text : number;
  }

  function order(a, b) {
    if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
    return typeof a === "number" ? -1 : 1; // Numbers come before text such as "-".
  }

  function sort(table, column, descending) {
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
    rows.sort(([a], [b]) =>
      typeof a === typeof b && descending ? order(b, a) : order(a, b));
    body.append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((heading, place) => {
      if (place === column) heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
  }

  function sortable(table) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.onclick = () => {
        const descending = heading.getAttribute("aria-sort") === "ascending";
        sort(table, column, descending);
        if (table.id) state.set({ [`sort.${table.id}`]: `${column}${descending ? "d" : "a"}` });
      };
    });
    const [, column, way] = state.get(`sort.${table.id}`)?.match(/^(\d+)([ad])$/) ?? [];
    if (column < table.tHead.rows[0].cells.length) sort(table, Number(column), way === "d");
  }

  // --- commands to copy

  function copied(code) {
    if (!navigator.clipboard) return; // Not in a page from the disk: it can be selected.
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.onclick = async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    };
    code.after(button);
  }

  // --- figures

  /** Draw a figure, if it can be seen: its width decides. */
  async function draw(figure) {
    const place = figure.querySelector(".chart");
    const known = figure.querySelector(":scope > script[type='application/json']");
    if (!charts[figure.dataset.kind] || !(known || figure.dataset.file) || !place.clientWidth) return;
    if (figure.closest("details:not([open])")) return; // Browsers lay out what is closed, too.
    try {
      const content = known ? JSON.parse(known.textContent) : await load(figure.dataset.file);
      place.replaceChildren(charts[figure.dataset.kind](figure, content, place.clientWidth));
      figure.dataset.drawn = "";
    } catch (error) {
      place.textContent = `The chart cannot be drawn: ${error.message}`;
      console.error(error);
    }
  }

  const drawn = () => Promise.all([...document.querySelectorAll("figure[data-kind]")].map(draw));

  const apply = remembered();
  if (apply) document.documentElement.dataset.theme = apply;

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("code.command").forEach(copied);
    drawn();
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth !== width) drawn();
      width = innerWidth;
    });
    document.addEventListener("toggle", (event) => {
      if (event.target.open) event.target.querySelectorAll("figure[data-kind]:not([data-drawn])").forEach(draw);
    }, true);
  });

  return { charts, data, load, state, sortable, copied, draw, scale, measured, percent };
})();
