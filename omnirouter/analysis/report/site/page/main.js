"use strict";
// Starts the page, and ties the choices of experiment and set to what they change.

async function chooseExperiment(number) {
  const radio = document.querySelector(`#experiments input[value="${number}"]`);
  if (!radio) return;
  radio.checked = true;
  REPORT.state.experiment = number;
  showRouting();
  if (REPORT.index.sets.length) await showList();
}

async function chooseSet(number) {
  Object.assign(REPORT.state, { set: number, utterance: null });
  showRouting();
  await showList();
}

function offerChoices() {
  const { experiments, sets } = REPORT.index;
  const buttons = experiments.map((name, number) => {
    const radio = element("input", { type: "radio", name: "experiment", value: `${number}`, checked: number === 0 });
    radio.onchange = guarded(() => chooseExperiment(number));
    return element("label", {}, radio, element("span", {}, lineSample(number), ` ${name}`));
  });
  document.getElementById("experiments").append(...buttons);
  const select = document.getElementById("set");
  select.append(...sets.map((set, number) => element("option", { value: `${number}` }, set.name)));
  select.value = `${REPORT.state.set}`;
  select.onchange = guarded(() => chooseSet(Number(select.value)));
}

function listenToList() {
  const change = guarded(() => {
    LIST.page = 0;
    return showList();
  });
  document.getElementById("search").oninput = later(change, 150);
  document.getElementById("filter").onchange = change;
  document.getElementById("page-back").onclick = () => turnPage(-1);
  document.getElementById("page-on").onclick = () => turnPage(1);
}

function listenToKeys() {
  const search = document.getElementById("search");
  const actions = {
    j: () => stepUtterance(1),
    k: () => stepUtterance(-1),
    p: togglePlay,
    "/": () => search.focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.matches("input[type=search], select")) return;
    const action = /^[1-9]$/.test(event.key) ? () => chooseExperiment(Number(event.key) - 1) : actions[event.key];
    if (!action) return;
    event.preventDefault();
    guarded(action)();
  });
}

function togglePlay() {
  const player = document.getElementById("player");
  if (player instanceof HTMLAudioElement) return player.paused ? play(player) : player.pause();
}

async function start() {
  if (!("DecompressionStream" in window)) throw new Error("this browser is too old; take one of 2023 or newer");
  REPORT.index = await REPORT.load("index");
  const { experiments, sets, routing, made } = REPORT.index;
  REPORT.state.set = Math.max(0, routing.findIndex((layers) => layers.some(Boolean))); // there is most to see
  document.title = `Report: ${experiments.join(", ")}`;
  document.getElementById("made").textContent = `Written by ${made}`;
  showResults();
  showCurves();
  offerChoices();
  showRouting();
  document.getElementById("utterances").hidden = !sets.length;
  document.getElementById("routing").hidden = !sets.length;
  document.getElementById("choice").hidden = !sets.length;
  if (sets.length) {
    listenToList();
    listenToKeys();
    await showList();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", guarded(showDetail));
  document.documentElement.dataset.ready = "true";
}

guarded(start)();
