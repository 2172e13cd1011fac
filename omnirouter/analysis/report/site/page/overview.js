"use strict";
// Results, curves and routing.

const NAMES = ["set", "experiment"];
const CAPTIONS = {
  fig3_random_routing: "Fig. 3: word error rate under random routing",
  fig4_contingency: "Fig. 4: experts of two layers",
  fig5_cramers_v: "Fig. 5: agreement of layers, Cramér's V",
  hearing: "What the experts tell of the speech",
  hearing_profile: "Experts by phone or unit",
  routing_in_training: "Routing over the training",
  load: "Load of the experts on all sets analysed",
};

function showResults() {
  const { rows, seeds, more, legend, seeds_legend } = REPORT.index.results;
  const body = document.getElementById("results-body");
  if (!rows.length) {
    body.append(element("p", {}, "None of the experiments has been scored."));
    return;
  }
  const cells = rows.map((row) => row.cells);
  const some = (wanted) =>
    cells.map((all) => Object.fromEntries(Object.entries(all).filter(([title]) => wanted(title))));
  body.append(resultTable(rows, some((title) => !more.includes(title))));
  body.append(element("ul", { className: "note" }, ...legend.map((line) => element("li", {}, line))));
  const others = plainTable("More of the same results", some((title) => [...NAMES, ...more].includes(title)));
  body.append(element("details", {}, element("summary", {}, "More columns"), others));
  if (seeds.length) {
    body.append(element("h3", {}, "Means over seeds"), plainTable("Means over seeds", seeds));
    body.append(element("p", { className: "note" }, seeds_legend));
  }
}

function resultTable(rows, all) {
  const titles = Object.keys(all[0]);
  const body = element("tbody");
  rows.forEach((row, i) => {
    const line = tableRow(all[i], all);
    if (row.rate) line.children[titles.indexOf("95 % interval")].append(intervalBar(row, rows));
    line.children[titles.indexOf("experiment")].prepend(lineSample(row.experiment), " ");
    if (i && rows[i - 1].cells.set !== row.cells.set) line.className = "new-set";
    body.append(line);
  });
  return framedTable("Results of the experiments on each set", headRow(all), body);
}

function plainTable(caption, rows) {
  const body = element("tbody", {}, ...rows.map((cells) => tableRow(cells, rows)));
  return framedTable(caption, headRow(rows), body);
}

function framedTable(caption, ...parts) {
  const title = element("caption", { className: "hidden" }, caption);
  const table = element("table", { className: "results" }, title, ...parts);
  return element("div", { className: "scroller", tabIndex: 0, role: "region", ariaLabel: caption }, table);
}

// The class of a column: numbers, such as 7.99, 4.58M or "7.35 to 8.62", go to the right.
function columnClass(title, rows) {
  const isNumber = rows.every((cells) => /^(–|-?[\d.]+M?( to -?[\d.]+)?)$/.test(cells[title]));
  return isNumber && !["config", "commit"].includes(title) ? "number" : "";
}

function headRow(rows) {
  const cells = Object.keys(rows[0]).map((title) =>
    element("th", { scope: "col", className: columnClass(title, rows) }, title));
  return element("thead", {}, element("tr", {}, ...cells));
}

function tableRow(cells, rows) {
  const titles = Object.keys(rows[0]);
  const made = titles.map((title) =>
    element(title === "experiment" ? "th" : "td", { className: columnClass(title, rows) }, cells[title]));
  made[titles.indexOf("experiment")].scope = "row";
  return element("tr", {}, ...made);
}

// The interval as a bar and the rate as a tick, on the scale of all rows of its set.
function intervalBar(row, rows) {
  const same = rows.filter((other) => other.rate && other.cells.set === row.cells.set);
  const low = Math.min(...same.map((other) => other.rate[1]));
  const high = Math.max(...same.map((other) => other.rate[2]));
  const [rate, from, to] = row.rate.map((value) => (100 * (value - low)) / (high - low || 1));
  const bar = element("span", { className: "interval-range" });
  Object.assign(bar.style, { left: `${from}%`, width: `${to - from}%`, background: lineColour(row.experiment) });
  const tick = element("span", { className: "interval-rate" });
  tick.style.left = `${rate}%`;
  return element("span", { className: "interval", ariaHidden: "true" }, bar, tick);
}

function showCurves() {
  const { curves, experiments } = REPORT.index;
  document.getElementById("training").hidden = !curves.length;
  document.getElementById("training-legend").append(
    ...experiments.map((name, number) => element("li", {}, lineSample(number), " ", name)),
  );
  const body = document.getElementById("training-body");
  for (const curve of curves) {
    const figure = element("figure", { className: "card" });
    body.append(figure);
    const series = curve.series.map((one, number) => ({ ...one, number, name: experiments[number] }));
    const about = { title: curve.title, xLabel: "training step", isLog: curve.log, fromZero: true };
    lineChart(figure, about, series.filter((one) => one.x.length));
  }
}

function showRouting() {
  const { experiment, set } = REPORT.state;
  const body = document.getElementById("routing-body");
  const layers = REPORT.index.routing[set]?.[experiment];
  body.replaceChildren();
  if (!layers) {
    const name = REPORT.index.experiments[experiment];
    body.append(element("p", {}, `${name}: no routing on this set (a dense encoder, or not analysed).`));
  } else {
    const cards = element("div", { className: "charts wide" });
    body.append(cards);
    cards.append(loadFigure(layers, REPORT.index.sets[set].layers[experiment]?.matched));
    const agreement = element("figure", { className: "card" });
    cards.append(agreement);
    agreementChart(agreement);
  }
  const ofSet = pictures(REPORT.index.figures[set]?.[experiment] ?? [], `figures/${set}-${experiment}`);
  const ofAll = pictures(REPORT.index.general_figures[experiment], `figures/${experiment}`);
  const all = [...ofSet, ...ofAll];
  if (all.length) body.append(element("div", { className: "charts gallery" }, ...all));
}

// Shares of the tokens by layer, the topmost layer first. Where layers have routers of their own, an expert's number is
// one of its router, not a name matched between layers as the timeline has it.
function loadFigure(layers, hasOwnRouters) {
  const title = element("figcaption", {}, "Share of tokens by layer and expert, %");
  const figure = element("figure", { className: "card" }, title);
  for (const layer of [...layers].reverse()) {
    const parts = layer.load.map((share, expert) => {
      const part = element("span", { title: `expert ${expert + 1}: ${rounded(100 * share)} %` });
      Object.assign(part.style, { width: `${100 * share}%`, ...expertStyle(expert) });
      if (share > 0.06) part.textContent = rounded(100 * share, 0);
      return part;
    });
    const label = `Layer ${layer.layer}: ${layer.load.map((share) => rounded(100 * share)).join(", ")} %`;
    const bar = element("span", { className: "load", role: "img", ariaLabel: label }, ...parts);
    const number = element("span", { className: "layer" }, `layer ${layer.layer}`);
    figure.append(element("div", { className: "load-row" }, number, bar));
  }
  const label = hasOwnRouters ? "expert of the layer's own router" : "expert";
  figure.append(expertLegend(Math.max(...layers.map((layer) => layer.load.length)), label));
  return figure;
}

function expertStyle(expert) {
  const background = expertColour(expert);
  return { background, color: inkOn(background) };
}

function expertLegend(count, label) {
  const items = Array.from({ length: count }, (_, expert) => {
    const chip = element("span", { className: "chip" }, `${expert + 1}`);
    Object.assign(chip.style, expertStyle(expert));
    return element("li", {}, chip);
  });
  return element("ul", { className: "legend experts" }, element("li", {}, label), ...items);
}

// Cramér's V between each layer and the one below, of all experiments that route.
function agreementChart(figure) {
  const series = REPORT.index.routing[REPORT.state.set].flatMap((layers, number) => {
    const upper = (layers ?? []).filter((layer) => typeof layer.cramers_v === "number");
    if (!upper.length) return [];
    const [x, y] = [upper.map((layer) => layer.layer), upper.map((layer) => +layer.cramers_v.toFixed(3))];
    return [{ name: REPORT.index.experiments[number], number, x, y }];
  });
  const about = { title: "Cramér's V between the experts of a layer and of the layer below", xLabel: "layer" };
  if (series.length) lineChart(figure, about, series);
  figure.hidden = !series.length;
}

function pictures(names, folder) {
  return names.map((name) => {
    const source = `${folder}/${encodeURIComponent(name)}.png`;
    const caption = CAPTIONS[name] ?? name.replace(/^fig(\d)_/, "Fig. $1: ");
    const picture = element("img", { src: source, alt: caption, loading: "lazy" });
    const link = element("a", { href: source }, picture);
    return element("figure", { className: "card" }, element("figcaption", {}, caption), link);
  });
}
