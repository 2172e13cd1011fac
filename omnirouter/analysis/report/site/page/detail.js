"use strict";
// One utterance: audio, timeline, and how each experiment's hypothesis differs from the reference.

const FIELDS = ["hyp", "ops", "ref_times", "hyp_times", "experts"];
const MARKS = { C: "", S: "substitution", I: "insertion", D: "deletion" };

async function showDetail() {
  const { set, utterance, experiment } = REPORT.state;
  const place = document.getElementById("detail");
  if (utterance === null) {
    place.replaceChildren(element("p", { className: "note" }, "No utterance is chosen."));
    return;
  }
  const about = REPORT.index.sets[set];
  const list = await REPORT.load(`set${set}`);
  const piece = await REPORT.load(`set${set}-${Math.floor(utterance / about.piece)}`);
  const now = REPORT.state; // the user may have gone on while the data were loaded
  if (now.set !== set || now.utterance !== utterance || now.experiment !== experiment) return;
  const one = utteranceOf(piece, utterance % about.piece);
  const same = place.dataset.shown === `${set}/${utterance}`;
  const player = (same && document.getElementById("player")) || audioPlayer(about, list);
  place.dataset.shown = `${set}/${utterance}`;
  const mine = one.experiments[experiment];
  const step = document.activeElement?.dataset.step;
  const readout = element("output", { className: "readout" });
  const timeline = element("div", { className: "timeline" });
  place.replaceChildren(detailHead(list, mine), player, timeline, readout, ...comparisons(list, one));
  place.querySelector(`[data-step="${step}"]`)?.focus(); // the buttons are new, the keyboard's focus stays
  if (mine?.experts) {
    const { names, matched } = about.layers[experiment]; // layers of one router have one set of experts' names
    readout.before(expertLegend(names, matched ? "expert, named by the best match between layers" : "expert"));
  }
  connectTimeline(player, timeline, timelineView(about, list, one), readout);
}

// What a piece, which has a column a field and experiment, says of its i-th utterance.
function utteranceOf(piece, i) {
  const experiments = piece.hyp.map((scored, number) =>
    scored && Object.fromEntries(FIELDS.map((field) => [field, piece[field][number][i]])));
  return { outline: piece.outlines[i] ?? "", experiments };
}

function detailHead(list, mine) {
  const { utterance, experiment } = REPORT.state;
  const length_s = list.lengths_s[utterance];
  const facts = [list.speakers[utterance], length_s ? `${rounded(length_s, 2)} s` : ""];
  const name = REPORT.index.experiments[experiment];
  facts.push(mine ? `${name}: ${errorSummary(mine.ops)}` : `${name}: not scored on this set`);
  const step = (label, by) => {
    const button = element("button", { type: "button" }, label);
    button.dataset.step = by;
    button.onclick = guarded(() => stepUtterance(by));
    return button;
  };
  return element("div", { className: "detail-head" },
    element("div", {},
      element("h3", { id: "detail-title" }, list.ids[utterance]),
      element("p", { className: "note" }, facts.filter(Boolean).join(" · "))),
    element("div", { className: "steps" }, step("‹ Previous", -1), step("Next ›", 1)));
}

function errorSummary(operations) {
  const count = (letter) => operations.split(letter).length - 1;
  const words = operations.length - count("I");
  const errors = operations.length - count("C");
  const kinds = ["S", "I", "D"].filter(count).map((letter) => plural(count(letter), MARKS[letter]));
  const rate = rounded(percent(errors, words));
  const sum = `${plural(errors, "error")} in ${plural(words, "word")} (raw WER ${rate} %)`;
  return kinds.length ? `${sum}: ${kinds.join(", ")}` : sum;
}

function audioPlayer(about, list) {
  const { utterance } = REPORT.state;
  if (about.audio === null) return element("p", { id: "player", className: "note" }, "This report has no audio.");
  if (!list.audio[utterance]) return element("p", { id: "player", className: "note" }, "The audio could not be read.");
  const audio = element("audio", { id: "player", controls: true, preload: "none" });
  audio.setAttribute("aria-label", `Audio of ${list.ids[utterance]}`);
  audio.src = `audio/${about.audio}/${utterance}.ogg`; // with preload "none" it is not read before it is played
  return audio;
}

async function play(player) {
  try {
    await player.play();
  } catch (error) {
    if (error.name === "AbortError") return; // another utterance was chosen before the audio was there
    document.querySelector("#detail .readout").textContent = `The audio cannot be played: ${error.message}`;
  }
}

function timelineView(about, list, one) {
  const { utterance, experiment } = REPORT.state;
  const mine = one.experiments[experiment] ?? {};
  const layers = about.layers[experiment];
  const rows = [["ref", "D", list.texts[utterance]], ["hyp", "I", mine.hyp]]
    .filter(([side]) => mine[`${side}_times`])
    .map(([side, lone, text]) => ({ label: side, words: timedWords(mine, side, lone, text.split(" ")) }));
  const ends = rows.flatMap((row) => row.words.map((word) => word.end_s));
  const experts = mine.experts && expertsByLayer(mine.experts, layers.layers.length);
  const routed = experts ? experts[0].length * layers.token_s : 0;
  return {
    length_s: list.lengths_s[utterance] || Math.max(routed, ...ends, 0), outline: one.outline, rows,
    experts, layers: layers?.layers ?? [], token_s: layers?.token_s ?? 0.04,
  };
}

// Numbers of the experts of each layer's tokens, from characters that have all layers of a token together.
function expertsByLayer(characters, layers) {
  const tokens = characters.length / layers;
  return Array.from({ length: layers }, (_, layer) =>
    Array.from({ length: tokens }, (_, token) => characters.charCodeAt(token * layers + layer) - 48));
}

// Words with their times; wrong are those that the alignment changes, found by going along its operations.
function timedWords(mine, side, lone, texts) {
  const operations = [...mine.ops].filter((operation) => operation === "C" || operation === "S" || operation === lone);
  const times = mine[`${side}_times`]; // since the word before began, and long, in hundredths of a second
  let start = 0;
  return texts.map((text, i) => {
    start += times[2 * i];
    return { start_s: start / 100, end_s: (start + times[2 * i + 1]) / 100, text, wrong: operations[i] !== "C" };
  });
}

function connectTimeline(player, place, view, readout) {
  place.hidden = !view.length_s || !(view.outline || view.experts || view.rows.length);
  if (place.hidden) return;
  const isAudio = player instanceof HTMLAudioElement;
  const move = showTimeline(place, view, (second) => {
    if (!isAudio) return;
    player.currentTime = second;
    play(player);
  }, (text) => (readout.textContent = text));
  if (!isAudio) return;
  const follow = () => {
    if (!place.isConnected) return;
    move(player.currentTime);
    if (!player.paused) requestAnimationFrame(follow);
  };
  player.onplay = follow;
  player.onseeked = follow;
  if (player.currentTime) follow();
}

function comparisons(list, one) {
  const { utterance, experiment } = REPORT.state;
  const text = list.texts[utterance];
  const mine = one.experiments[experiment];
  const parts = mine ? [alignment(text, mine), marksLegend()] : [];
  one.experiments.forEach((other, number) => {
    if (!other || number === experiment) return;
    const choose = element("button", { type: "button" }, lineSample(number), ` ${REPORT.index.experiments[number]}`);
    choose.onclick = guarded(() => chooseExperiment(number));
    const head = element("p", { className: "note other" }, choose, ` ${errorSummary(other.ops)}`);
    parts.push(head, alignment(text, other));
  });
  return parts;
}

// Reference over hypothesis, a column an edit; errors bear a letter and are read out in words, beside their colour.
function alignment(text, mine) {
  const [ref, hyp] = [text, mine.hyp].map((words) => (words ? words.split(" ") : []));
  const columns = [...mine.ops].map((operation) => {
    const top = operation === "I" ? null : ref.shift();
    const bottom = operation === "D" ? null : hyp.shift();
    return operation === "C" ? correctWord(top) : wrongWord(operation, top, bottom);
  });
  return element("ol", { className: "alignment", ariaLabel: "Reference over hypothesis" }, ...columns);
}

function correctWord(word) {
  return element("li", { className: "C" }, element("span", {}, word), element("span", { ariaHidden: "true" }, word));
}

function wrongWord(operation, top, bottom) {
  const said = `${MARKS[operation]}: ${top ?? "nothing"} became ${bottom ?? "nothing"}`;
  const shown = [top, bottom].map((word) =>
    element("span", { ariaHidden: "true", className: word === null ? "none" : "" }, word ?? "∅"));
  const mark = element("b", { ariaHidden: "true" }, operation);
  const spoken = element("span", { className: "hidden" }, said);
  return element("li", { className: operation, title: MARKS[operation] }, spoken, ...shown, mark);
}

function marksLegend() {
  const items = ["S", "I", "D"].map((letter) =>
    element("li", { className: letter }, element("b", {}, letter), ` ${MARKS[letter]}`));
  const how = element("li", {}, "Reference above, hypothesis below.");
  return element("ul", { className: "legend marks" }, how, ...items);
}
