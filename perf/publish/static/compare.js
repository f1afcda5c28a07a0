// Compare: another pair of releases, from the medians of all of them; the page has the newest two.
"use strict";
(() => {
  const { measured, percent } = site;

  function cell(text, sort, verdict) {
    const made = document.createElement("td");
    const inner = verdict ? made.appendChild(document.createElement("span")) : made;
    if (verdict) inner.className = "verdict not-judged";
    inner.textContent = text;
    if (sort !== undefined) made.dataset.sort = sort;
    return made;
  }

  function row(one, a, b) {
    const [before, after] = [one.values[a], one.values[b]];
    const [ratio, low, high] = [after[0] / before[0], after[1] / before[2], after[2] / before[1]];
    const made = document.createElement("tr");
    made.append(
      cell(one.benchmark), cell(one.case || "-"), cell(one.dependencies ?? "of its time"),
      cell(measured(before[0], one.unit), before[0]), cell(measured(after[0], one.unit), after[0]),
      cell(percent(ratio), ratio, true), cell(`${percent(low)} to ${percent(high)}`),
      cell(String(Math.min(before[3], after[3]))),
    );
    return [Math.abs(Math.log(ratio)), made];
  }

  /** Show the rows of all tables whose benchmark or case has this text. */
  function filter(text) {
    for (const one of document.querySelectorAll("main tbody tr")) {
      const names = `${one.cells[0].textContent} ${one.cells[1].textContent}`.toLowerCase();
      one.hidden = !names.includes(text.toLowerCase());
    }
  }

  async function show(a, b) {
    const ratios = document.getElementById("ratios");
    let judged = false;
    for (const section of document.querySelectorAll("section.kept")) {
      section.hidden = section.dataset.a !== a || section.dataset.b !== b;
      judged ||= !section.hidden;
    }
    document.getElementById("others")?.toggleAttribute("hidden", true);
    ratios.hidden = judged;
    if (judged || (ratios.dataset.a === a && ratios.dataset.b === b)) return;
    const data = await site.load(ratios.dataset.file);
    const rows = data.cases.filter((one) => one.values[b] && one.values[a]?.[1] > 0).map((one) => row(one, a, b));
    rows.sort(([one], [other]) => other - one);
    ratios.querySelector("tbody").replaceChildren(...rows.map(([, made]) => made));
    Object.assign(ratios.dataset, { a, b });
    ratios.querySelector(".a").textContent = a;
    ratios.querySelector(".b").textContent = b;
    ratios.querySelector("code.command").textContent = `python -m perf compare ${a} ${b}`;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("pair");
    const { a, b } = form.elements;
    const text = form.elements.with;
    const update = async () => {
      await show(a.value, b.value);
      filter(text.value);
    };
    form.onsubmit = (event) => event.preventDefault();
    for (const control of [a, b, text]) {
      control.disabled = false;
      const wanted = site.state.get(control.name);
      const known = control === text || [...control.options].some((option) => option.value === wanted);
      if (wanted !== null && known) control.value = wanted;
      control.oninput = () => {
        site.state.set({ a: a.value, b: b.value, with: text.value });
        update();
      };
    }
    update();
  });
})();
