"use strict";
// The timeline of an utterance: waveform, experts of each layer and token under it, words, seconds.

const TIMELINE = {
  wave: 66, gap: 6, word: 20, axis: 18, // heights in pixels
  pixels_s: 130, most: 15000, // of the width: at least so many a second, at most so many in all
  font: "12px system-ui, sans-serif",
};

// view: {length_s, outline, layers, token_s, experts, rows: [{label, words: [{start_s, end_s, text, wrong}]}]}
function timelineParts(view) {
  const parts = [];
  let top = 0;
  const add = (kind, height, label, more = {}) => {
    parts.push({ kind, top, height, label, ...more });
    top += height;
  };
  if (view.outline) add("wave", TIMELINE.wave, "wave");
  const height = view.layers.length > 8 ? 12 : 16;
  if (view.experts) {
    add("gap", TIMELINE.gap, "");
    for (let i = view.layers.length - 1; i >= 0; i--) add("layer", height, `${view.layers[i]}`, { i });
    add("gap", TIMELINE.gap, "");
  }
  for (const row of view.rows) add("words", TIMELINE.word, row.label, { words: row.words });
  add("axis", TIMELINE.axis, "s");
  return { parts, height: top };
}

// Draws into `place`; onSeek gets the second that is clicked, onRead what is under the pointer. Returns a function that
// puts the playhead at a second.
function showTimeline(place, view, onSeek, onRead) {
  const { parts, height } = timelineParts(view);
  const gutter = element("div", { className: "gutter", ariaHidden: "true" });
  for (const part of parts) gutter.append(gutterLabel(part));
  const canvas = element("canvas", { role: "img", ariaLabel: timelineSummary(view) });
  const playhead = element("div", { className: "playhead", hidden: true });
  const holder = element("div", { className: "holder" }, canvas, playhead);
  const scroller = element("div", { className: "strip", tabIndex: 0, role: "group", ariaLabel: "Timeline" }, holder);
  gutter.style.height = `${height}px`;
  place.replaceChildren(gutter, scroller);
  let width = 0;
  const draw = () => {
    const wanted = Math.max(scroller.clientWidth, view.length_s * TIMELINE.pixels_s, ...view.rows.map(rowWidth));
    width = Math.min(wanted, TIMELINE.most);
    drawTimeline(canvas, view, parts, width, height);
  };
  draw();
  new ResizeObserver(later(draw, 50)).observe(scroller);
  const second = (event) => ((event.clientX - canvas.getBoundingClientRect().left) / width) * view.length_s;
  canvas.onclick = (event) => onSeek(second(event));
  canvas.onpointermove = (event) => onRead(readAt(view, parts, second(event), event.offsetY));
  canvas.onpointerleave = () => onRead("");
  return (at_s) => movePlayhead(playhead, scroller, (at_s / view.length_s) * width);
}

function gutterLabel(part) {
  const label = element("span", {}, part.kind === "layer" ? `layer ${part.label}` : part.label);
  Object.assign(label.style, { top: `${part.top}px`, height: `${part.height}px`, lineHeight: `${part.height}px` });
  return label;
}

function timelineSummary(view) {
  const ribbon = view.experts ? `, expert of each token in ${plural(view.layers.length, "layer")}` : "";
  return `${view.outline ? "Waveform" : "Timeline"} of ${rounded(view.length_s)} seconds${ribbon}`;
}

function movePlayhead(playhead, scroller, left) {
  playhead.hidden = false;
  playhead.style.left = `${left}px`;
  const { scrollLeft, clientWidth } = scroller;
  if (left < scrollLeft || left > scrollLeft + clientWidth) scroller.scrollLeft = left - clientWidth * 0.1;
}

function drawTimeline(canvas, view, parts, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, TIMELINE.most / width);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.font = TIMELINE.font;
  pen.textBaseline = "middle";
  const x = (second) => (second / view.length_s) * width;
  for (const part of parts) {
    if (part.kind === "wave") drawWave(pen, view, part, width);
    if (part.kind === "layer") drawLayer(pen, view, part, x);
    if (part.kind === "words") drawWords(pen, part, x, width);
    if (part.kind === "axis") drawSeconds(pen, view, part, x, width);
  }
}

function drawWave(pen, view, part, width) {
  const middle = part.top + part.height / 2;
  const step = width / view.outline.length;
  pen.fillStyle = themeColour("--wave");
  for (let i = 0; i < view.outline.length; i++) {
    const level = (view.outline.charCodeAt(i) - 48) / 31;
    const half = Math.max(0.5, level * (part.height / 2 - 2));
    pen.fillRect(i * step, middle - half, Math.max(step - (step > 3 ? 1 : 0), 0.5), 2 * half);
  }
}

// Runs of one expert are drawn as one piece, with its number where there is room.
function drawLayer(pen, view, part, x) {
  const experts = view.experts[part.i];
  for (let start = 0, end = 0; start < experts.length; start = end) {
    while (end < experts.length && experts[end] === experts[start]) end++;
    const expert = experts[start];
    const [left, right] = [x(start * view.token_s), x(Math.min(end * view.token_s, view.length_s))];
    pen.fillStyle = expertColour(expert);
    pen.fillRect(left, part.top + 0.5, right - left + 0.3, part.height - 1);
    if (right - left > 13) {
      pen.fillStyle = inkOn(expertColour(expert));
      pen.textAlign = "center";
      pen.fillText(`${expert + 1}`, (left + right) / 2, part.top + part.height / 2 + 0.5);
    }
  }
}

// A word's time is marked, in colour and by a line if it is wrong; its letters stand as near as those of others let.
function drawWords(pen, part, x, width) {
  pen.textAlign = "left";
  const places = wordPlaces(part.words.map((word) => [x(word.start_s), textWidth(pen, word.text)]), width);
  for (const word of part.words) {
    const left = x(word.start_s);
    const long = Math.max(x(word.end_s) - left - 1, 3);
    pen.fillStyle = themeColour(word.wrong ? "--wrong-back" : "--word-back");
    pen.fillRect(left, part.top + 1, long, part.height - 2);
    pen.fillStyle = themeColour("--del");
    if (word.wrong) pen.fillRect(left, part.top + part.height - 3, long, 2);
  }
  part.words.forEach((word, i) => {
    pen.fillStyle = themeColour(word.wrong ? "--del" : "--ink");
    pen.fillText(word.text, places[i], part.top + part.height / 2);
  });
}

function textWidth(pen, text) {
  return pen.measureText(text).width + 6;
}

// The width that the words of a row need.
function rowWidth(row) {
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = TIMELINE.font;
  return row.words.reduce((sum, word) => sum + textWidth(pen, word.text), 0);
}

// Where texts begin, each [wanted left, its width], without covering one another: pushed to the right, then, from the
// right border, back to the left.
function wordPlaces(texts, width) {
  const places = [];
  let free = 0;
  for (const [left, long] of texts) {
    places.push(Math.max(left, free));
    free = places[places.length - 1] + long;
  }
  free = width;
  for (let i = texts.length - 1; i >= 0; i--) {
    places[i] = Math.min(places[i], free - texts[i][1]);
    free = places[i];
  }
  return places;
}

function drawSeconds(pen, view, part, x, width) {
  pen.fillStyle = themeColour("--soft");
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60].find((s) => x(s) > 50) ?? 60;
  for (let n = 0; n * step <= view.length_s; n++) {
    const at = x(n * step);
    pen.textAlign = at < 10 ? "left" : at > width - 12 ? "right" : "center";
    pen.fillRect(at, part.top, 1, 4);
    pen.fillText(`${+(n * step).toFixed(1)}`, at, part.top + 11);
  }
}

function readAt(view, parts, second, y) {
  const said = view.rows.flatMap((row) =>
    row.words.filter((w) => w.start_s <= second && second < w.end_s).map((w) => `${row.label}: ${w.text}`),
  );
  const part = parts.find((one) => one.top <= y && y < one.top + one.height);
  const token = Math.floor(second / view.token_s);
  const shown = part?.kind === "layer" ? [part.i] : view.experts ? view.experts.map((_, i) => i) : [];
  const chosen = shown
    .filter((i) => token < view.experts[i].length)
    .map((i) => `layer ${view.layers[i]}: expert ${view.experts[i][token] + 1}`);
  return [`${rounded(second, 2)} s`, ...said, ...chosen].join(" · ");
}
