// Kinds of charts: dots, lines and scaling; history.js has the fourth. Each takes a figure, its data and a width, and gives an element.
"use strict";
(() => {
  const COLOURS = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => `var(--c${number})`);

  /** A figure's svg, as one image with a name: the parts that Plot labels have no role of their own. */
  function image(svg, label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    for (const part of svg.querySelectorAll("[aria-label], [aria-description]")) {
      part.removeAttribute("aria-label");
      part.removeAttribute("aria-description");
    }
    return svg;
  }

  function name(figure) {
    return figure.querySelector("figcaption")?.textContent.trim() ?? figure.id;
  }

  /** Colours of groups that are verdicts: as in tables. */
  const VERDICTS = {
    slower: "var(--slower)", faster: "var(--faster)", undecided: "var(--muted)", "no change": "var(--c1)",
  };

  /** Colour of each group, in the order in which groups appear. */
  function colours(rows) {
    const groups = [...new Set(rows.map((row) => row.group ?? ""))];
    return new Map(groups.map((group, place) => [group, VERDICTS[group] ?? COLOURS[place % COLOURS.length]]));
  }

  function legend(colour) {
    const list = document.createElement("ul");
    list.className = "legend";
    for (const [group, value] of colour) {
      const item = document.createElement("li");
      const mark = document.createElement("i");
      mark.style.background = value;
      item.append(mark, group);
      list.append(item);
    }
    return list;
  }

  function together(svg, colour) {
    const both = document.createElement("div");
    if (colour.size > 1) both.append(legend(colour));
    both.append(svg);
    return both;
  }

  const scale = (axis) => ({
    label: axis?.unit ? `${axis.label} [${axis.unit}]` : axis?.label ?? null,
    type: axis?.log ? "log" : "linear",
    grid: true,
    nice: !axis?.log,
    zero: axis?.zero ?? false,
    tickFormat: axis?.log ? "~s" : undefined,
  });

  const title = (row, data) =>
    row.title ?? [row.group, `${row.y ?? ""} ${data.y?.unit ?? ""}`, `${row.x} ${data.x?.unit ?? ""}`]
      .filter((part) => part && String(part).trim()).join("\n");

  /**
   * Values by name, a row each: {x: {label, unit, log, at?}, rows: [{y: name, x, lo?, hi?, group?, title?}]}.
   * A line joins the values of one name; another, dashed, is at `at`.
   */
  site.charts.dots = (figure, data, width) => {
    const colour = colours(data.rows);
    const fill = (row) => colour.get(row.group ?? "");
    const names = [...new Set(data.rows.map((row) => row.y))];
    const longest = Math.min(width * 0.4, 20 + 7 * d3.max(names, (one) => one.length));
    const ranges = data.rows.filter((row) => row.lo !== undefined && row.hi !== undefined);
    const svg = Plot.plot({
      width, height: 50 + 24 * names.length, marginLeft: longest, marginBottom: 40, marginRight: 20,
      x: scale(data.x), y: { domain: names, label: null },
      marks: [
        ...(data.x?.at === undefined ? [] : [Plot.ruleX([data.x.at], { stroke: "currentColor", strokeDasharray: "4 3" })]),
        Plot.ruleY(d3.groups(data.rows, (row) => row.y), { y: ([one]) => one,
          x1: ([, rows]) => d3.min(rows, (row) => row.x), x2: ([, rows]) => d3.max(rows, (row) => row.x),
          stroke: "currentColor", strokeOpacity: 0.3 }),
        Plot.ruleY(ranges, { y: "y", x1: "lo", x2: "hi", stroke: fill, strokeWidth: 2, strokeOpacity: 0.6 }),
        Plot.dot(data.rows, { y: "y", x: "x", fill, r: 5, title: (row) => title(row, data) }),
      ],
    });
    return together(image(svg, name(figure)), colour);
  };

  /**
   * Points over a number: {x, y: {label, unit, log, zero}, rows: [{x, y, lo?, hi?, group?, title?}]}. `lines` joins
   * those of a group. `scaling` has the law that was fitted to them instead, fits: [{group, points: [[x, y], ...]}],
   * and, if ideal is a number, that number times x.
   */
  function curves(figure, data, width) {
    const fitted = (data.fits ?? []).flatMap(({ group, points }) => points.map(([x, y]) => ({ group, x, y })));
    const colour = colours([...data.rows, ...fitted]);
    const stroke = (row) => colour.get(row.group ?? "");
    const z = (row) => row.group ?? "";
    const rows = d3.sort(data.rows, (row) => row.x);
    const ideal = data.ideal ? d3.extent(rows, (row) => row.x).map((x) => ({ x, y: data.ideal * x })) : [];
    const ranges = rows.filter((row) => row.lo !== undefined && row.hi !== undefined);
    const svg = Plot.plot({
      width, height: Math.min(420, Math.max(260, width * 0.5)), marginLeft: 64, marginBottom: 44, marginRight: 20,
      x: scale(data.x), y: scale(data.y),
      marks: [
        Plot.lineY(ideal, { x: "x", y: "y", stroke: "currentColor", strokeOpacity: 0.5, strokeDasharray: "2 4" }),
        figure.dataset.kind === "scaling"
          ? Plot.lineY(fitted, { x: "x", y: "y", z, stroke, strokeDasharray: "6 3" })
          : Plot.lineY(rows, { x: "x", y: "y", z, stroke }),
        Plot.ruleX(ranges, { x: "x", y1: "lo", y2: "hi", stroke, strokeOpacity: 0.7 }),
        Plot.dot(rows, { x: "x", y: "y", fill: stroke, r: 4, title: (row) => title(row, data) }),
      ],
    });
    return together(image(svg, name(figure)), colour);
  }
  site.charts.lines = site.charts.scaling = curves;

  Object.assign(site, { COLOURS, legend });
})();
