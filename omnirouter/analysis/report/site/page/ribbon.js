"use strict";
// The timeline of an utterance: waveform, experts of each layer and token under it, words, seconds.

const TIMELINE = { wave: 66, gap: 6, word: 20, axis: 18, pixels_s: 105, most: 15000 };

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
    view.layers.map((layer, i) => [layer, i]).reverse().forEach(([layer, i]) => add("layer", height, `${layer}`, { i }));
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
    width = Math.min(Math.max(scroller.clientWidth, view.length_s * TIMELINE.pixels_s), TIMELINE.most);
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
  pen.font = "12px system-ui, sans-serif";
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
    const level = (view.outline.charCodeAt(i) - 48) / 63;
    const half = Math.max(0.5, level * (part.height / 2 - 2));
    pen.fillRect(i * step, middle - half, Math.max(step - (step > 3 ? 1 : 0), 0.5), 2 * half);
  }
}

// Runs of one expert are drawn as one piece, with its number where there is room.
function drawLayer(pen, view, part, x) {
  const experts = view.experts[part.i];
  for (let start = 0, end = 0; start < experts.length; start = end) {
    while (end < experts.length && experts[end] === experts[start]) end++;
    const expert = experts.charCodeAt(start) - 48;
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

// A word's time is marked; its letters, which may need more room, go on until the next word. Wrong words are underlined
// beside their colour.
function drawWords(pen, part, x, width) {
  const middle = part.top + part.height / 2;
  pen.textAlign = "left";
  part.words.forEach((word, i) => {
    const [left, right] = [x(word.start_s), Math.max(x(word.end_s) - 1, x(word.start_s) + 3)];
    const room = (part.words[i + 1] ? x(part.words[i + 1].start_s) : width) - 2;
    pen.fillStyle = themeColour(word.wrong ? "--wrong-back" : "--word-back");
    pen.fillRect(left, part.top + 1, right - left, part.height - 2);
    pen.fillStyle = themeColour(word.wrong ? "--del" : "--ink");
    if (word.wrong) pen.fillRect(left, part.top + part.height - 3, right - left, 2);
    pen.save();
    pen.beginPath();
    pen.rect(left, part.top, Math.max(room - left, 0), part.height);
    pen.clip();
    pen.fillText(word.text, left + 2, middle);
    pen.restore();
  });
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
    .map((i) => `layer ${view.layers[i]}: expert ${view.experts[i].charCodeAt(token) - 47}`);
  return [`${rounded(second, 2)} s`, ...said, ...chosen].join(" · ");
}
