"use strict";
// The list of a set's utterances: searched, filtered, sorted, in pages.

const PAGE_ROWS = 50;
const COLUMNS = [
  { key: "id", title: "Utterance" },
  { key: "speaker", title: "Speaker" },
  { key: "length", title: "Length", number: true },
  { key: "errors", title: "Errors", number: true },
  { key: "wer", title: "raw WER %", number: true },
];
const LIST = { data: null, rows: [], page: 0, sort: "errors", down: true };

function errorsOf(row) {
  return LIST.data.errors[REPORT.state.experiment]?.[row] ?? null;
}

function valueOf(row, key) {
  const { ids, speakers, lengths_s, words } = LIST.data;
  if (key === "id") return ids[row];
  if (key === "speaker") return speakers[row] ?? "";
  if (key === "length") return lengths_s[row] ?? 0;
  const errors = errorsOf(row);
  return errors === null ? -1 : key === "errors" ? errors : percent(errors, words[row]);
}

async function showList() {
  const set = REPORT.state.set;
  const data = await REPORT.load(`set${set}`);
  if (set !== REPORT.state.set) return;
  if (LIST.data !== data) {
    data.words = data.texts.map((text) => (text ? text.split(" ").length : 0));
    data.sought = data.texts.map((text, i) => `${data.ids[i]} ${data.speakers[i] ?? ""} ${text}`.toLocaleLowerCase());
    Object.assign(LIST, { data, page: 0 });
  }
  const sought = document.getElementById("search").value.trim().replace(/\s+/g, " ").toLocaleLowerCase();
  const filter = document.getElementById("filter").value;
  LIST.rows = data.ids.map((_, row) => row).filter((row) => data.sought[row].includes(sought) && passes(row, filter));
  sortRows();
  if (!LIST.rows.includes(REPORT.state.utterance)) REPORT.state.utterance = LIST.rows[0] ?? null;
  drawPage();
  await showDetail();
}

function passes(row, filter) {
  if (filter === "wrong") return errorsOf(row) > 0;
  if (filter === "differ") return LIST.data.differ[row];
  return true;
}

function sortRows() {
  const order = new Intl.Collator(undefined, { numeric: true });
  const sign = LIST.down ? -1 : 1;
  const values = new Map(LIST.rows.map((row) => [row, valueOf(row, LIST.sort)]));
  const compare = (a, b) => (typeof a === "string" ? order.compare(a, b) : a === b ? 0 : a < b ? -1 : 1);
  LIST.rows.sort((a, b) => sign * compare(values.get(a), values.get(b)) || a - b);
}

function drawHead() {
  const cells = COLUMNS.map((column) => {
    const isSorted = LIST.sort === column.key;
    const arrow = element("span", { ariaHidden: "true" }, isSorted ? (LIST.down ? " ▼" : " ▲") : "");
    const button = element("button", { type: "button" }, column.title, arrow);
    button.dataset.sort = column.key;
    button.onclick = guarded(() => sortBy(column));
    const cell = element("th", { scope: "col", className: column.number ? "number" : "" }, button);
    if (isSorted) cell.ariaSort = LIST.down ? "descending" : "ascending";
    return cell;
  });
  document.getElementById("list-head").replaceChildren(...cells);
}

async function sortBy(column) {
  LIST.down = LIST.sort === column.key ? !LIST.down : Boolean(column.number);
  Object.assign(LIST, { sort: column.key, page: 0 });
  await showList();
  document.querySelector(`#list-head [data-sort=${column.key}]`).focus();
}

function drawPage() {
  drawHead();
  const { rows } = LIST;
  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  LIST.page = Math.min(LIST.page, pages - 1);
  const start = LIST.page * PAGE_ROWS;
  const shown = rows.slice(start, start + PAGE_ROWS);
  document.getElementById("list-body").replaceChildren(...shown.map(listRow));
  const count = rows.length ? `${start + 1}–${start + shown.length} of ${rows.length}` : "nothing found";
  document.getElementById("count").textContent = count;
  document.getElementById("page-back").disabled = LIST.page === 0;
  document.getElementById("page-on").disabled = LIST.page >= pages - 1;
}

function listRow(row) {
  const errors = errorsOf(row);
  const { ids, speakers, lengths_s, texts, words } = LIST.data;
  const button = element("button", { type: "button", className: "open id" }, ids[row]);
  const made = element("tr", {},
    element("th", { scope: "row", colSpan: 2 },
      element("span", { className: "who" }, button, element("span", { className: "speaker" }, speakers[row] ?? "")),
      element("span", { className: "text" }, texts[row])),
    element("td", { className: "number length" }, rounded(lengths_s[row] || null)),
    element("td", { className: "number errors" }, errors === null ? "–" : `${errors}`),
    element("td", { className: "number wer" }, errors === null ? "–" : rounded(percent(errors, words[row]), 0)));
  made.dataset.row = row;
  if (row === REPORT.state.utterance) markRow(made);
  made.onclick = guarded(() => openUtterance(row, true));
  return made;
}

function markRow(made) {
  made.classList.add("chosen");
  made.querySelector("button").setAttribute("aria-current", "true");
}

async function openUtterance(row, byPointer) {
  REPORT.state.utterance = row;
  for (const other of document.querySelectorAll("#list-body .chosen")) {
    other.classList.remove("chosen");
    other.querySelector("button").removeAttribute("aria-current");
  }
  const made = document.querySelector(`#list-body [data-row="${row}"]`);
  if (made) markRow(made);
  await showDetail();
  const isNarrow = matchMedia("(max-width: 63rem)").matches; // then the list is below what is shown
  if (!isNarrow) made?.scrollIntoView({ block: "nearest" });
  else if (byPointer) document.getElementById("detail").scrollIntoView({ block: "start" });
}

async function stepUtterance(by) {
  const next = LIST.rows[LIST.rows.indexOf(REPORT.state.utterance) + by];
  if (next === undefined) return;
  const page = Math.floor(LIST.rows.indexOf(next) / PAGE_ROWS);
  if (page !== LIST.page) {
    LIST.page = page;
    drawPage();
  }
  await openUtterance(next, false);
}

function turnPage(by) {
  LIST.page += by;
  drawPage();
  document.querySelector(".list .scroller").scrollTop = 0;
}
