"use strict";
// What all scripts of the page share: loading of data, elements, colours, numbers.

const REPORT = {
  index: null,
  state: { experiment: 0, set: 0, utterance: null },
  waiting: new Map(),
  loaded: new Map(),
};

// Data come as scripts, since a page opened from disk may not fetch files; each calls REPORT.receive once.
REPORT.load = function (name) {
  if (!REPORT.loaded.has(name)) {
    REPORT.loaded.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      REPORT.waiting.set(name, resolve);
      script.src = `data/${name}.js`;
      script.onload = () => script.remove();
      script.onerror = () => reject(new Error(`data/${name}.js cannot be read: is the folder complete?`));
      document.head.append(script);
    }));
  }
  return REPORT.loaded.get(name);
};

REPORT.receive = function (name, length, letters) {
  const stream = new Blob([unpacked(letters, length)]).stream().pipeThrough(new DecompressionStream("deflate"));
  REPORT.waiting.get(name)(new Response(stream).json());
};

// So many bytes out of letters that hold 15 bits each, as scripts.py packs them.
function unpacked(letters, length) {
  const bytes = new Uint8Array(length);
  let [held, bits, next] = [0, 0, 0];
  for (let i = 0; i < letters.length; i++) {
    held = (held << 15) | (letters.charCodeAt(i) - 0x3000);
    bits += 15;
    while (bits >= 8) {
      bits -= 8;
      bytes[next++] = held >> bits; // beyond the length, where there is padding, nothing is written
      held &= (1 << bits) - 1;
    }
  }
  return bytes;
}

REPORT.fail = function (error) {
  const place = document.getElementById("failure");
  place.textContent = `Something of the report cannot be shown: ${error.message}`;
  place.hidden = false;
};

// Of an action, a listener that says what fails: a page opened from disk gets no events of unhandled errors.
function guarded(action) {
  return async (...values) => {
    try {
      await action(...values);
    } catch (error) {
      REPORT.fail(error);
    }
  };
}

// An element with properties (or attributes, where it has no such property), listeners ("onclick") and children. Text
// only ever becomes a text node, so that a transcript is never read as HTML.
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawn(tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

// Of lines, Okabe and Ito's colours, which the colour-blind can tell apart, beginning with those that stand out from
// the background; then hues at the golden angle. Those of experts come with the data, and are the figures'.
const LINE_COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#f0e442"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2 1 2", "1 2", "6 6"];

function expertColour(number) {
  return REPORT.index.expert_colours[number];
}

function lineColour(number) {
  return LINE_COLOURS[number] ?? hue(number);
}

function hue(number) {
  return `hsl(${(number * 137.5) % 360} 55% 50%)`;
}

function dash(number) {
  return DASHES[number % DASHES.length];
}

// Black or white, whichever is read better on a colour "#rrggbb"; light for hsl(), whose lightness is 50 %.
function inkOn(background) {
  if (!background.startsWith("#")) return "#ffffff";
  const [r, g, b] = [1, 3, 5].map((start) => parseInt(background.slice(start, start + 2), 16) / 255);
  return 0.2126 * r ** 2.2 + 0.7152 * g ** 2.2 + 0.0722 * b ** 2.2 > 0.18 ? "#000000" : "#ffffff";
}

function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function percent(errors, words) {
  return words ? (100 * errors) / words : errors ? Infinity : 0;
}

function rounded(value, digits = 1) {
  return value === null || value === undefined ? "–" : Number.isFinite(value) ? value.toFixed(digits) : "∞";
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function later(action, wait_ms) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, wait_ms);
  };
}
