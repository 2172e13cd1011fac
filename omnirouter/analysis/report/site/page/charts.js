"use strict";
// Line charts, drawn as SVG at the width they have.

const CHART = { height: 230, left: 46, right: 20, top: 8, bottom: 34, slack: 2 }; // pixels

// about: {title, xLabel, isLog, fromZero}; series: {name, number, x, y}, the number giving colour and dashes.
function lineChart(figure, about, series) {
  const readout = element("output", { className: "readout" });
  const place = element("div", { className: "plot" });
  figure.replaceChildren(element("figcaption", {}, about.title), place, readout);
  const draw = () => {
    const scales = chartScales(series, about, Math.max(place.clientWidth, 240));
    const svg = chartFrame(scales, about.xLabel);
    svg.setAttribute("aria-label", chartSummary(about.title, series));
    for (const one of series) svg.append(chartLine(one, scales));
    place.replaceChildren(svg);
    followPointer(svg, about, series, scales, readout);
  };
  draw();
  new ResizeObserver(later(draw, 50)).observe(place);
}

function chartSummary(title, series) {
  const ends = series.map((one) => `${one.name} ends at ${one.y[one.y.length - 1]}`);
  return `${title}: ${ends.join(", ")}`;
}

function chartScales(series, { isLog, fromZero }, width) {
  const xs = series.flatMap((one) => one.x);
  const ys = series.flatMap((one) => one.y);
  const yTicks = isLog ? logTicks(Math.min(...ys), Math.max(...ys)) : niceTicks(Math.min(0, ...ys), Math.max(...ys), 5);
  const [first, last] = [fromZero ? 0 : Math.min(...xs), Math.max(...xs)];
  const xTicks = niceTicks(first, last, width < 400 ? 4 : 6).filter((x) => x <= last && x % 1 === 0);
  const bend = isLog ? Math.log : (value) => value;
  const [low, high] = [bend(Math.min(...yTicks, ...ys)), bend(Math.max(...yTicks, ...ys))];
  const span = last - first || 1;
  const inner = { width: width - CHART.left - CHART.right, height: CHART.height - CHART.top - CHART.bottom };
  return {
    width, xTicks, yTicks,
    x: (value) => CHART.left + ((value - first) / span) * inner.width,
    y: (value) => CHART.top + (1 - (bend(value) - low) / (high - low || 1)) * inner.height,
    at: (pixel) => first + ((pixel - CHART.left) / inner.width) * span,
  };
}

function niceTicks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high + step * 0.001; n++) ticks.push(n * step);
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const factor of high / low > 100 ? [1] : [1, 2, 5]) ticks.push(factor * 10 ** power);
  }
  return ticks.filter((tick, i) => (ticks[i + 1] ?? Infinity) > low && (ticks[i - 1] ?? 0) < high);
}

function shortNumber(value) {
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  return value >= 1e4 ? `${+(value / 1e3).toPrecision(3)}k` : `${+value.toPrecision(3)}`;
}

function chartFrame(scales, xLabel) {
  const svg = drawn("svg", { width: scales.width, height: CHART.height, role: "img" });
  const bottom = CHART.height - CHART.bottom;
  for (const tick of scales.yTicks) {
    const y = scales.y(tick);
    svg.append(drawn("line", { class: "grid", x1: CHART.left, x2: scales.width - CHART.right, y1: y, y2: y }));
    svg.append(drawn("text", { x: CHART.left - 6, y: y + 4, "text-anchor": "end" }, shortNumber(tick)));
  }
  for (const tick of scales.xTicks) {
    svg.append(drawn("text", { x: scales.x(tick), y: bottom + 15, "text-anchor": "middle" }, shortNumber(tick)));
  }
  const middle = (CHART.left + scales.width) / 2;
  svg.append(drawn("text", { x: middle, y: CHART.height - 4, "text-anchor": "middle" }, xLabel));
  return svg;
}

function chartLine(one, scales) {
  const points = one.x.map((x, i) => `${scales.x(x).toFixed(1)},${scales.y(one.y[i]).toFixed(1)}`);
  const look = { class: "curve", points: points.join(" "), stroke: lineColour(one.number) };
  return drawn("polyline", { ...look, "stroke-dasharray": dash(one.number) });
}

function followPointer(svg, about, series, scales, readout) {
  const ends = { y1: CHART.top, y2: CHART.height - CHART.bottom };
  const cursor = drawn("line", { class: "cursor", ...ends, visibility: "hidden" });
  svg.append(cursor);
  const steps = series.flatMap((one) => one.x);
  svg.onpointermove = (event) => {
    const at = steps[nearestIndex(steps, scales.at(event.clientX - svg.getBoundingClientRect().left))];
    cursor.setAttribute("x1", scales.x(at));
    cursor.setAttribute("x2", scales.x(at));
    cursor.setAttribute("visibility", "visible");
    const values = series.map((one) => `${one.name} ${valueAt(one, at, scales) ?? "–"}`);
    readout.textContent = `${about.xLabel} ${Math.round(at)}: ${values.join(" · ")}`;
  };
  svg.onpointerleave = () => {
    cursor.setAttribute("visibility", "hidden");
    readout.textContent = "";
  };
}

// The value nearest to a step; none before a series begins and after it has ended, as far as can be seen.
function valueAt(one, step, scales) {
  const [first, here, last] = [one.x[0], step, one.x[one.x.length - 1]].map(scales.x);
  if (here < first - CHART.slack || here > last + CHART.slack) return null;
  return one.y[nearestIndex(one.x, step)];
}

function nearestIndex(values, wanted) {
  let best = 0;
  values.forEach((value, i) => {
    if (Math.abs(value - wanted) < Math.abs(values[best] - wanted)) best = i;
  });
  return best;
}

function lineSample(number) {
  const svg = drawn("svg", { width: 30, height: 10, "aria-hidden": "true" });
  const look = { class: "curve", x1: 0, x2: 30, y1: 5, y2: 5, stroke: lineColour(number) };
  svg.append(drawn("line", { ...look, "stroke-dasharray": dash(number) }));
  return svg;
}
