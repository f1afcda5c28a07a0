// Executors: the form of `python -m perf advise`. The arithmetic is that of perf/scaling/advice.py, line by line.
"use strict";
window.advise = (() => {
  const SERIAL = "iterative";
  const BATCHES_AHEAD = 2;

  const whole = (number) => number.toLocaleString("en-US");
  const seconds = (value) => `${value.toFixed(value >= 10 ? 0 : 1)} s`;
  const within = (value, spread) => ({ value, low: value / spread, high: value * spread });
  const isSerial = (law) => law.engine.split(",")[0] === SERIAL;

  /** As Python rounds: halves to even numbers. */
  function round(value) {
    const floor = Math.floor(value);
    if (value - floor !== 0.5) return Math.round(value);
    return floor % 2 === 0 ? floor : floor + 1;
  }

  function chunks(question, chunksize) {
    return question.files * Math.max(1, round(question.events / question.files / chunksize));
  }

  function batches(number, workers) {
    let count = 0;
    for (; number > 0; count += 1) number -= Math.max(1, Math.floor(number / (BATCHES_AHEAD * workers)));
    return count;
  }

  const scale = (law, question) => (question.ns === null ? 1 : question.ns / law.ns);

  function predict(law, question, workers, number, chunksize) {
    const rounds = Math.ceil(number / workers);
    const busy = number / rounds;
    const work = question.events * scale(law, question);
    const costs = law.costs;
    const beside = costs.run + costs.chunk * number;
    const computing = costs.round * rounds + (work * costs.event) / busy;
    const exchange = work * (costs.serial * (1 - 1 / busy) + costs.crosstalk * (busy - 1));
    const more = question.accumulator === null ? 0 : Math.max(0, question.accumulator - law.accumulator);
    const results = law.batched ? batches(number, workers) : number;
    const merging = (law.merge ?? 0) * more * results;
    const run = beside + computing + exchange + merging;
    const start = costs.start + costs.worker * (workers - 1) + costs.inspect + costs.file * question.files;
    const waiting = computing * (1 - busy / workers);
    const each = law.worker_bytes + (law.event_bytes * question.events) / number;
    const answer = {
      engine: law.engine, workers, chunksize, chunks: number,
      whole: within(start + run, law.whole_spread), run: within(run, law.run_spread),
      start, work: run - waiting - merging, waiting, merging, memory: law.other_bytes + workers * each,
    };
    return { ...answer, why: why(answer) };
  }

  function why(one) {
    return `start ${seconds(one.start)}, work ${seconds(one.work)}, last chunks ${seconds(one.waiting)}, ` +
      `merging ${seconds(one.merging)}; ${(one.memory / 1e9).toFixed(1)} GB of memory`;
  }

  function outside(...asked) {
    const each = asked.map(([value, [low, high], what]) => `${whole(value)} ${what}, only ${whole(low)} to ${whole(high)}`);
    return `not measured: ${each.join("; ")}`;
  }

  function measured(law, question, chunksize) {
    const number = chunks(question, chunksize);
    const events = question.events / number;
    const time = events * law.costs.event * scale(law, question);
    return [[number, law.chunks], [events, law.chunk_events], [time, law.chunk_seconds]]
      .every(([value, [low, high]]) => low <= value && value <= high);
  }

  /** The answer with the best chunk size, or why there is none. */
  function best(law, question, memory) {
    const workers = isSerial(law) ? 1 : question.workers;
    const accumulator = question.accumulator ?? law.accumulator;
    const asked = [
      [workers, law.workers, "workers"], [question.files, law.files, "files"], [question.events, law.events, "events"],
    ].filter(([value, [low, high]]) => value < low || value > high);
    if (asked.length) return outside(...asked);
    if (accumulator > law.accumulator && (law.merge === null || accumulator > law.largest_accumulator)) {
      const most = law.merge === null ? law.accumulator : law.largest_accumulator;
      return `not measured: an accumulator of ${whole(accumulator)} bytes, only up to ${whole(most)}`;
    }
    // No chunk is larger than a file.
    const each = Math.ceil(question.events / question.files);
    const answers = law.chunksizes.filter((size) => measured(law, question, size))
      .map((size) => predict(law, question, workers, chunks(question, size), Math.min(size, each)));
    if (!answers.length) {
      return `not measured: such chunks, only ${whole(law.chunks[0])} to ${whole(law.chunks[1])} of ` +
        `${law.chunk_seconds[0].toFixed(2)} to ${law.chunk_seconds[1].toFixed(2)} s each`;
    }
    const fitting = answers.filter((one) => memory === null || one.memory <= memory);
    if (!fitting.length) {
      const least = Math.min(...answers.map((one) => one.memory));
      return `too large: ${(least / 1e9).toFixed(1)} GB of memory, the machine has ${((memory ?? 0) / 1e9).toFixed(1)}`;
    }
    return fitting.sort((a, b) => a.whole.value - b.whole.value || b.chunksize - a.chunksize)[0];
  }

  /** What `perf advise --json` gives, for one machine. */
  function advise(laws, question) {
    const most = Math.max(0, ...laws.laws.map((law) => law.workers[1]));
    const answers = [];
    const refused = [];
    for (const law of laws.laws) {
      const found = isSerial(law) && question.workers > most
        ? outside([question.workers, [1, most], "workers"]) : best(law, question, laws.memory);
      if (typeof found === "string") refused.push({ engine: law.engine, why: found });
      else answers.push(found);
    }
    answers.sort((a, b) => a.whole.value - b.whole.value);
    const missing = laws.missing.map(([engine, reason]) => ({ engine, why: reason }));
    return { machine: laws.machine, job: laws.job, answers, refused: [...refused, ...missing] };
  }

  /** The advice of the first machine that has any, or else that of the first, with what each says. */
  function first(machines, question) {
    const all = machines.filter((laws) => laws.laws.length).map((laws) => advise(laws, question));
    const found = all.find((one) => one.answers.length);
    const reasons = all.map((one) => `${one.refused[0]?.why} (${one.machine.split(":")[0]})`);
    return found ?? { ...all[0], reason: reasons.join("; ") };
  }

  // --- the form

  function cells(row, texts) {
    for (const text of texts) row.insertCell().textContent = text;
  }

  /** Executors whose intervals overlap with that of the first. */
  function asFast([winner, ...others]) {
    const names = others.filter((one) => one.whole.low <= winner.whole.high).map((one) => one.engine);
    return names.length ? `; may be as fast: ${names.join(", ")}` : "";
  }

  function show(place, found) {
    const body = place.querySelector("tbody");
    body.replaceChildren();
    for (const one of found.answers) {
      cells(body.insertRow(), [
        one.engine, one.workers, whole(one.chunksize), seconds(one.whole.value),
        `${seconds(one.whole.low)} to ${seconds(one.whole.high)}`, seconds(one.run.value), one.why,
      ]);
    }
    for (const { engine, why: reason } of found.refused) cells(body.insertRow(), [engine, "", "", "", "", "", reason]);
    place.querySelector("caption").textContent = `${found.job} on ${found.machine}`;
    const [winner] = found.answers;
    place.querySelector("p").textContent = winner
      ? `${winner.engine}, chunks of ${whole(winner.chunksize)} events: ${seconds(winner.whole.value)} ` +
        `(${seconds(winner.whole.low)} to ${seconds(winner.whole.high)})${asFast(found.answers)}`
      : found.reason;
    place.hidden = false;
  }

  function question(form) {
    const number = (name) => (form.elements[name].value === "" ? null : Number(form.elements[name].value));
    const asked = Object.fromEntries(["events", "files", "workers", "accumulator", "ns"].map((name) => [name, number(name)]));
    const sound = asked.workers >= 1 && asked.files >= 1 && asked.events >= asked.files &&
      (asked.accumulator === null || asked.accumulator >= 0) && (asked.ns === null || asked.ns > 0);
    return sound ? asked : null;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const form = document.getElementById("advise");
    if (!form) return;
    const machines = JSON.parse(document.getElementById("laws").textContent);
    const place = document.getElementById("advice");
    for (const input of form.elements) {
      if (input.name) input.value = site.state.get(input.name) ?? input.value;
    }
    const answer = () => {
      const asked = question(form);
      if (asked) show(place, first(machines, asked));
      else {
        place.querySelector("p").textContent = "Ask for at least one event a file, one file and one core.";
        place.querySelector("caption").textContent = "";
        place.querySelector("tbody").replaceChildren();
        place.hidden = false;
      }
    };
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", () => {
      site.state.set(Object.fromEntries([...form.elements].filter((one) => one.name).map((one) => [one.name, one.value])));
      answer();
    });
    answer();
  });

  return { advise, first };
})();
