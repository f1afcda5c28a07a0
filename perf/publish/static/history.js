// The page History: filters over its table, small multiples of the chosen benchmark, and what is known of a point.
"use strict";
(() => {
  const HEIGHT = 210;
  const state = site.state;
  const byId = (id) => document.getElementById(id);

  function element(name, content, properties = {}) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...[content].flat());
    return made;
  }

  // --- the list

  function filter() {
    const words = (state.get("q") ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const [kind, clock] = [state.get("kind"), state.get("clock")];
    const judged = state.get("all") === null;
    let found = 0;
    for (const row of byId("benchmarks").tBodies[0].rows) {
      const text = `${row.textContent} ${row.dataset.name} ${row.dataset.cases}`.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && (!kind || row.dataset.kind === kind)
        && (!clock || row.dataset.clock === clock) && (!judged || row.dataset.judged !== "0"));
      found += !row.hidden;
    }
    byId("found").textContent = `${found} of ${byId("benchmarks").tBodies[0].rows.length} benchmarks`;
  }

  function controls() {
    const [search, kind, clock, judged] = ["search", "kind", "clock", "judged"].map(byId);
    search.value = state.get("q") ?? "";
    kind.value = state.get("kind") ?? "";
    clock.value = state.get("clock") ?? "";
    judged.checked = state.get("all") === null;
    byId("filters").hidden = byId("view").hidden = false;
    byId("filters").oninput = () => {
      state.set({ q: search.value, kind: kind.value, clock: clock.value, all: judged.checked ? null : "1" });
      filter();
    };
    byId("filters").onsubmit = (event) => event.preventDefault();
    byId("log").checked = state.get("log") === "1";
    byId("log").onchange = () => {
      state.set({ log: byId("log").checked ? "1" : null });
      site.draw(byId("history"));
    };
    byId("machine").onchange = () => {
      state.set({ machine: byId("machine").value, p: null });
      show();
    };
    byId("benchmarks").addEventListener("click", (event) => {
      const link = event.target.closest("a[href^='#']");
      if (!link) return;
      event.preventDefault();
      state.set({ b: new URLSearchParams(link.hash.slice(1)).get("b"), p: null, machine: null });
      show().then(() => byId("history").scrollIntoView());
    });
  }

  // --- the chosen benchmark

  const chosen = () => state.get("b")
    ?? [...byId("benchmarks").tBodies[0].rows].find((row) => !row.hidden)?.dataset.name;

  async function show() {
    const figure = byId("history");
    const name = chosen();
    for (const link of byId("benchmarks").querySelectorAll("a[href^='#']")) {
      const own = link.hash === `#b=${name}`;
      own ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    }
    if (!name) {
      figure.querySelector("figcaption").textContent = "No benchmark is chosen";
      return;
    }
    figure.dataset.file = name;
    let data;
    try {
      data = await site.load(name);
    } catch {
      figure.querySelector("figcaption").textContent = `There is no benchmark ${name}: choose one above`;
      figure.querySelector(".chart").replaceChildren();
      return;
    }
    figure.querySelector("figcaption").textContent = data.title;
    const machines = [...new Set(data.curves.map((curve) => curve.machine))];
    byId("machine").replaceChildren(...machines.map((one) => element("option", one)));
    byId("machine").value = machine(data);
    byId("machines").hidden = machines.length < 2;
    await site.draw(figure);
    const [what, stack, at] = state.get("p")?.split("~") ?? [];
    const curve = curves(data).find((one) => one.what === what && one.stack === stack);
    const point = curve?.points.find((one) => one.at === at);
    if (point) about(data, curve, point);
    else byId("point").hidden = true;
  }

  function machine(data) {
    const wanted = state.get("machine");
    return data.curves.some((curve) => curve.machine === wanted) ? wanted : data.machine;
  }

  const curves = (data) => data.curves.filter((curve) => curve.machine === machine(data));

  const dependencies = (stack) => stack ? `dependencies of ${stack} at all points` : "dependencies of the time";

  // --- its charts

  site.charts.history = (figure, data, width) => {
    const shown = curves(data);
    const stacks = [...new Set(data.curves.map((curve) => curve.stack))];
    const colour = new Map(stacks.map((stack, place) => [stack, site.COLOURS[place % site.COLOURS.length]]));
    const cases = d3.groups(shown, (curve) => curve.what);
    const columns = cases.length === 1 ? 1 : Math.max(1, Math.min(cases.length, Math.floor(width / 420)));
    const dates = d3.extent(shown.flatMap((curve) => curve.points), (point) => new Date(point.date));
    const grid = element("div", cases.map(([, members]) =>
      multiple(data, members, colour, Math.floor((width - 24 * (columns - 1)) / columns), dates)), { className: "multiples" });
    grid.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    const whole = element("div", [site.legend(new Map(stacks.map((stack) => [dependencies(stack), colour.get(stack)]))), grid]);
    if (shown.some((curve) => curve.points.some((point) => point.old && !point.main))) {
      whole.firstChild.append(element("li", "dashed: the old line 0.7"));
    }
    whole.append(table(data, shown));
    return whole;
  };

  function multiple(data, members, colour, width, dates) {
    const points = members.flatMap((curve) => curve.points.map((point) => ({ ...point, curve, x: new Date(point.date) })));
    const [factor, unit] = site.scale(d3.max(points, (point) => point.median), data.unit);
    const samples = points.flatMap((point) => point.samples.map((value) => ({ ...point, y: value / factor })));
    const changes = members.flatMap((curve) => curve.changes.map((change) => ({ ...change, curve, x: new Date(change.date) })));
    const stroke = (point) => colour.get(point.curve.stack);
    const line = (kept, dash) => Plot.lineY(kept, { x: "x", y: (point) => point.median / factor,
      z: (point) => point.curve.stack, stroke, strokeDasharray: dash });
    const log = state.get("log") === "1" && d3.min(samples, (one) => one.y) > 0;
    // A single release has no history: a dot, and its value above.
    const single = dates[0].getTime() === dates[1].getTime();
    const day = 864e5;
    const svg = Plot.plot({
      width, height: HEIGHT, marginLeft: 52, marginRight: 14, marginTop: 26, marginBottom: 26,
      x: { type: "utc", label: null, ticks: Math.max(2, Math.floor(width / 110)),
        domain: single ? [new Date(+dates[0] - 60 * day), new Date(+dates[1] + 60 * day)] : dates },
      y: { label: unit, grid: true, nice: true, zero: !log, type: log ? "log" : "linear", tickFormat: log ? "~g" : undefined, ticks: 5 },
      marks: [
        Plot.ruleX(changes, { x: "x", stroke: (one) => one.worse ? "var(--slower)" : "var(--faster)", strokeDasharray: "4 3" }),
        line(points.filter((point) => point.main)),
        line(points.filter((point) => point.old), "2 4"),
        Plot.dot(samples, { x: "x", y: "y", r: 2, fill: stroke, fillOpacity: 0.55 }),
        Plot.dot(points, { x: "x", y: (point) => point.median / factor, r: 5, fill: stroke, className: "medians",
          ariaLabel: (point) => `${point.at}: ${site.measured(point.median, data.unit)}, ${dependencies(point.curve.stack)}` }),
        Plot.text(changes, { x: "x", frameAnchor: "top", dy: -14, text: (one) => one.effect.replace(/^\w+: /, ""),
          fill: (one) => one.worse ? "var(--slower)" : "var(--faster)", fontWeight: 600,
          textAnchor: (one) => "middle" }),
      ],
    });
    const name = members[0].case || data.title;
    for (const part of svg.querySelectorAll("g[aria-label], g[aria-description]")) {
      part.removeAttribute("aria-label");
      part.removeAttribute("aria-description");
    }
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-label", `${name}: medians at each release`);
    interactive(svg, points, data);
    const lines = members.map((curve) => {
      const more = curve.smallest
        ? ` At the next release, ${site.percent(curve.smallest)} or more would be judged.` : "";
      return element("p", [element("i", "", { style: `background:${colour.get(curve.stack)}` }), `${curve.verdict}.${more}`],
        { className: "judged" });
    });
    return element("div", [element("h3", name), ...lines, svg], { className: "case" });
  }

  /** Medians can be chosen: by a click, or with arrows and Enter. */
  function interactive(svg, points, data) {
    const marks = [...svg.querySelectorAll(".medians circle")];
    marks.sort((a, b) => points[a.__data__].x - points[b.__data__].x);
    marks.forEach((mark, place) => {
      const point = points[mark.__data__];
      const choose = () => {
        state.set({ b: chosen(), p: `${point.curve.what}~${point.curve.stack}~${point.at}` });
        about(data, point.curve, point);
      };
      mark.setAttribute("role", "button");
      mark.setAttribute("tabindex", place ? "-1" : "0");
      mark.append(title(`${point.at}, ${site.measured(point.median, data.unit)}`));
      mark.onclick = choose;
      mark.onkeydown = (event) => {
        const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
        if (step) {
          const next = marks[Math.min(marks.length - 1, Math.max(0, place + step))];
          mark.setAttribute("tabindex", "-1");
          next.setAttribute("tabindex", "0");
          next.focus();
        } else if (event.key === "Enter" || event.key === " ") choose();
        else return;
        event.preventDefault();
      };
    });
  }

  function title(text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", "title");
    made.textContent = text;
    return made;
  }

  function table(data, shown) {
    const head = ["Case", "Dependencies", "Coffea", "Date", "Median", "Processes", "From", "To"];
    const rows = shown.flatMap((curve) => curve.points.map((point) => [
      curve.case || "-", curve.stack ? `those of ${curve.stack}` : "of the time", point.at, point.date,
      ...[point.median, null, d3.min(point.samples), d3.max(point.samples)].map((value) =>
        value === null ? String(point.samples.length) : { value, text: site.measured(value, data.unit) }),
    ]));
    const made = element("table", [
      element("thead", element("tr", head.map((one) => element("th", one, { scope: "col" })))),
      element("tbody", rows.map((row) => element("tr", row.map((cell) => {
        const td = element("td", cell?.text ?? cell);
        if (cell?.text) td.dataset.sort = cell.value;
        return td;
      })))),
    ], { className: "sortable", id: "points" });
    site.sortable(made);
    const wide = element("div", made, { className: "wide", tabIndex: 0 });
    wide.setAttribute("role", "region");
    wide.setAttribute("aria-label", `Points of ${data.title}`);
    return element("details", [element("summary", "Table"), wide]);
  }

  // --- a point

  const first = (name) => ["coffea-scaling", "coffea", "awkward", "uproot", "numba", "numpy", "dask", "distributed", "hist"].indexOf(name) + 1 || 99;

  async function about(data, curve, point) {
    const { versions } = await site.load("versions");
    // The line that the point is on: its own, or that of 0.7.
    const line = curve.points.filter((one) => point.main ? one.main : one.old);
    const before = line[line.findIndex((one) => one.at === point.at) - 1];
    const own = versions[point.versions];
    const old = before ? versions[before.versions] : {};
    const names = [...new Set([...Object.keys(own), ...Object.keys(old)])]
      .sort((a, b) => first(a) - first(b) || (a < b ? -1 : 1));
    const differing = names.filter((name) => own[name] !== old[name]);
    const change = curve.changes.find((one) => one.after === point.at);
    const place = byId("point");
    const name = chosen();
    const range = `${site.measured(d3.min(point.samples), data.unit)} to ${site.measured(d3.max(point.samples), data.unit)}`;
    place.replaceChildren(element("h2", `${curve.case ? `${curve.case}, ` : ""}${point.at}`), element("dl", [
      ["Median", `${site.measured(point.median, data.unit)} (${point.samples.length} values: ${range})`],
      ["Released", point.date],
      ["Judged", change ? `${change.effect} since ${change.before}, ${Math.round(100 * change.confidence)} % interval ${site.percent(change.interval[0])} to ${site.percent(change.interval[1])}`
        : point.main && curve.smallest ? "no change here that can be told from the noise" : "not judged"],
      ...(before && !change ? [["Beside " + before.at, `${site.percent(point.median / before.median)}, not judged`]] : []),
      ["Measured", `${point.measured} on ${curve.machine}${point.load === null ? "" : `, load average ${point.load.toFixed(1)}`}; ${point.input}`],
      ["Dependencies", dependencies(curve.stack)],
      [before ? `Changed since ${before.at}` : "Changed", before ? differing.length
        ? element("ul", differing.map((one) => element("li", `${one} ${old[one] ?? "(new)"}${old[one] && own[one] ? " to " : " "}${own[one] ?? "(gone)"}`)), { className: "columns" })
        : "nothing" : "this is the first point"],
      ["All versions", element("details", [element("summary", `${Object.keys(own).length} packages`), Object.entries(own).map((pair) => pair.join(" ")).join(", ")])],
      ["Raw data", [element("a", "CSV", { href: `data/${name}.csv` }), " ", element("a", "JSON", { href: `data/${name}.json` })]],
      ["Which commit", before && curve.bisect
        ? command(`python -m perf bisect ${before.at} ${point.at} ${curve.bisect} --repo ../coffea`)
        : before ? "No benchmark of compare measures this alone: bisect cannot search for the commit." : "-"],
    ].flatMap(([term, text]) => [element("dt", term), element("dd", text)])));
    place.hidden = false;
    place.querySelectorAll("code.command").forEach(site.copied);
  }

  function command(text) {
    return element("code", text, { className: "command", tabIndex: 0 });
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!byId("benchmarks")) return;
    const restore = () => {
      controls();
      filter();
      show();
    };
    restore();
    addEventListener("hashchange", restore);
  });
})();
