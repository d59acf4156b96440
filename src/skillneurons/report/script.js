"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  // The numbers of a figure: where the mouse points, a finger touches, or the arrow keys have come to.
  const tip = byId("tip");
  let on = null;
  const hide = () => {
    tip.hidden = true;
    if (on) on.classList.remove("on");
    on = null;
  };
  const show = (mark) => {
    if (mark === on) return;
    hide();
    on = mark;
    mark.classList.add("on");
    tip.textContent = mark.getAttribute("aria-label");
    tip.hidden = false;
    const at = mark.getBoundingClientRect();
    const left = at.left + at.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    const above = at.top - tip.offsetHeight - 6;
    tip.style.top = `${above > 4 ? above : at.bottom + 6}px`;
  };
  for (const figure of document.querySelectorAll("svg.figure")) {
    const marks = [...figure.querySelectorAll(".marks > *")];
    for (const mark of marks) { // a title of the browser's own would stand beside the tip
      const title = mark.querySelector("title");
      mark.setAttribute("aria-label", title.textContent);
      title.remove();
    }
    const touched = (event) => (event.target.closest(".marks > *") ? show(event.target) : hide());
    figure.addEventListener("pointerover", touched);
    figure.addEventListener("pointerdown", touched);
    figure.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    figure.addEventListener("blur", hide);
    figure.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") hide();
      if (!step || !marks.length) return;
      event.preventDefault();
      const from = marks.indexOf(on);
      const next = from < 0 ? (step > 0 ? 0 : marks.length - 1) : (from + step + marks.length) % marks.length;
      marks[next].scrollIntoView({ block: "nearest", inline: "nearest" });
      show(marks[next]);
    });
  }
  addEventListener("scroll", hide, { passive: true });

  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // not allowed: mark it, so that it is one key to copy
        getSelection().selectAllChildren(code);
      }
    });
  }
  if (matchMedia("(max-width: 68rem)").matches) {
    const contents = document.querySelector("nav details");
    if (contents) contents.open = false;
  }

  // Neurons: columns as the page's maker lays them out (neurons.py).
  const form = byId("lookup");
  if (!form) return;
  const about = JSON.parse(byId("neurons-about").textContent);
  const found = byId("found");
  const NONE = 65535;
  let unpacked = null;
  const unpack = async () => {
    const packed = Uint8Array.from(atob(byId("neurons-data").textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = await new Response(stream).arrayBuffer();
    let at = 0;
    return about.rankings.map((ranking) => {
      const take = (kind) => {
        const from = at;
        at += ranking.rows * kind.BYTES_PER_ELEMENT;
        return new kind(bytes.slice(from, at));
      };
      return {
        ...ranking, index: take(Uint32Array), rank: take(Uint32Array), predictivity: take(Uint16Array),
        std: take(Uint16Array), q: take(Uint16Array), subtask: take(Uint8Array),
        spots: Array.from({ length: ranking.trials }, () => take(Uint16Array)),
      };
    });
  };
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const small = (value) => (value >= 0.001 ? value.toFixed(3) : value.toExponential(1));
  const COLUMNS = ["task", "rank", "predictivity on dev", "q", "position and sign", "accuracy on test"];
  const LEGEND = "±: standard deviation over trials. Positions are one a trial; + where above its baseline it speaks for "
    + "the positive side, − where for the negative one.";
  const rowOf = (ranking, layer, neuron) => {
    const row = ranking.index.indexOf(about.starts[layer] + neuron);
    if (row < 0) return null;
    const subtask = ranking.subtasks[ranking.subtask[row]];
    const tested = about.tested.find((own) => own.task === ranking.task && own.subtask === subtask
      && own.layer === layer && own.neuron === neuron);
    const spots = ranking.spots.map((column) => `${column[row] >> 1}${column[row] & 1 ? "+" : "−"}`);
    return [
      subtask === ranking.task ? ranking.task : `${ranking.task}: ${subtask}`,
      `${ranking.rank[row]}`,
      (100 * ranking.predictivity[row] / (NONE - 1)).toFixed(1)
        + (ranking.std[row] === NONE ? " %" : ` ± ${percent(ranking.std[row] / (NONE - 1))}`),
      small(10 ** (-ranking.q[row] / 1000)),
      spots.join(", "),
      tested
        ? `${percent(tested.test_accuracy)} (${(100 * tested.low).toFixed(1)} to ${percent(tested.high)})`
        : "not measured",
    ];
  };
  const tell = async (layer, neuron) => {
    found.replaceChildren();
    const width = about.starts[layer + 1] - about.starts[layer];
    if (!(layer >= 0 && neuron >= 0 && neuron < width)) {
      const layers = about.starts.length - 1;
      make("p", layer < layers && layer >= 0
        ? `Layer ${layer} has the neurons 0 to ${width - 1}; there is no ${neuron}.`
        : `The model has the layers 0 to ${layers - 1}; there is no ${layer}.`, found);
      return;
    }
    try {
      unpacked ??= unpack();
      const rows = (await unpacked).map((ranking) => rowOf(ranking, layer, neuron)).filter(Boolean);
      const wide = make("div", "", found);
      wide.className = "wide";
      const table = make("table", "", wide);
      make("caption", `Neuron ${neuron} of layer ${layer}`, table);
      const head = make("tr", "", make("thead", "", table));
      for (const column of COLUMNS) make("th", column, head).scope = "col";
      const body = make("tbody", "", table);
      for (const row of rows) {
        const line = make("tr", "", body);
        for (const cell of row) make("td", cell, line);
      }
      make("p", LEGEND, found).className = "quiet";
      for (const own of about.words.filter((one) => one.layer === layer && one.neuron === neuron)) {
        const line = make("p", "", found);
        make("b", `${own.task}, ${own.end === "top" ? "most" : "least"} active at: `, line);
        line.append(own.texts.join(", "));
      }
    } catch (error) {
      make("p", `The browser cannot unpack the figures (${error.message}); neurons.parquet has them.`, found);
    }
  };
  const fromLink = () => {
    const named = /^#neuron=(\d+)\.(\d+)$/.exec(location.hash);
    if (!named) return;
    const [layer, neuron] = named.slice(1).map(Number);
    byId("layer").value = layer;
    byId("neuron").value = neuron;
    tell(layer, neuron).then(() => byId("neurons").scrollIntoView());
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const link = `#neuron=${Number(byId("layer").value)}.${Number(byId("neuron").value)}`;
    if (location.hash === link) fromLink();
    else location.hash = link;
  });
  addEventListener("hashchange", fromLink);
  fromLink();
})();
