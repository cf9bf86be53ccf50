"use strict";
// Tables of a report from the data below it. No library, no request; rows are made when they are needed.

const data = JSON.parse(document.getElementById("data").textContent);
const CHUNK = 100; // rows made at a time
const PRINTED = 300; // rows of a table that are printed
const FILTERS = [["task", "Task"], ["method", "Method"], ["variant", "Variant"], ["device", "Device"], ["commit", "Commit"]];
const BASE = "base"; // the variant of a method's first setting, whose label is empty
const filter = {};
const tables = [];

// ---- elements ----

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

// ---- numbers ----

const fixed = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const signed = (value, digits = 2) => (value > 0 ? "+" : "") + fixed(value, digits);
const short = (value) =>
  value === null || value === undefined ? "–"
    : value >= 1e6 ? (value / 1e6).toFixed(3) + "M" : value >= 1e3 ? (value / 1e3).toFixed(1) + "k" : value.toFixed(0);
const probability = (value) => (value === null || value === undefined ? "–" : value < 0.001 ? "< 0.001" : value.toFixed(3));

// ---- runs ----

const runs = {};
for (const column of data.runs) {
  runs[column.name] = { title: column.title, get: column.numbers ? (i) => column.numbers[i] : (i) => column.texts[column.at[i]] };
}
const runCount = data.runs.length ? (data.runs[0].at || data.runs[0].numbers).length : 0;
const runValue = (name, index) => runs[name].get(index);
const runPath = (index) => "../runs/" + runValue("run", index);

// ---- filters ----

function matches(name, values) {
  const wanted = filter[name];
  if (!wanted || !values || values.length === 0) return true;
  const list = Array.isArray(values) ? values : [values];
  return list.some((value) => (value === "" && name === "variant" ? BASE : value) === wanted
    || (name === "method" && value === data.methods[wanted]));
}

function filterBar() {
  const bar = make("div", { class: "filters", role: "search", "aria-label": "Filter all tables" });
  for (const [name, title] of FILTERS) {
    const values = new Set();
    for (let i = 0; i < runCount; i++) values.add(runValue(name, i));
    if (values.size < 2) continue; // nothing to choose
    const select = make("select", { id: "filter-" + name }, make("option", { value: "" }, "all"));
    for (const value of [...values].sort()) {
      const text = name === "method" ? data.methods[value] || value : value;
      const key = value === "" ? (name === "variant" ? BASE : null) : value;
      if (key !== null) select.append(make("option", { value: key }, text || BASE));
    }
    select.addEventListener("change", () => { filter[name] = select.value; redraw(); });
    bar.append(make("label", { for: select.id }, title, select));
  }
  if (!bar.children.length) return ""; // one run, or runs that agree in all of it
  const reset = () => {
    for (const select of bar.querySelectorAll("select")) { select.value = ""; filter[select.id.slice(7)] = ""; }
    redraw();
  };
  bar.append(make("button", { type: "button", onclick: reset }, "Show all"));
  return bar;
}

const redraw = () => tables.forEach((table) => table.draw());

// ---- a table: sorted by its heads, filtered by the bar, its rows made on demand ----

// columns: { title, text, value(row), cell(row), when() }; rows: anything; keys(row): filter values
function table({ label, columns, rows, keys, tall, headed = true }) {
  const order = { column: -1, down: false };
  const head = make("tr");
  const body = make("tbody");
  const count = make("caption");
  const element = make("table", { "aria-rowcount": rows.length + 1 }, count, make("thead", {}, head), body);
  const box = make("div", { class: "wide" + (tall ? " tall" : ""), tabindex: 0, role: "region", "aria-label": label }, element);
  const more = make("button", { type: "button", class: "more", onclick: () => grow(CHUNK) }, "More rows");
  let shown = [], made = 0, visible = columns;

  function sorted() {
    const kept = rows.filter((row) => { const own = keys(row); return FILTERS.every(([name]) => matches(name, own[name])); });
    if (order.column < 0) return kept;
    const { value } = columns[order.column];
    const side = order.down ? -1 : 1;
    const missing = (v) => v === null || v === undefined || v === "";
    return kept.map((row, at) => ({ row, at, key: value(row) })).sort((a, b) => {
      if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key) || a.at - b.at;
      const compared = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key
        : String(a.key).localeCompare(String(b.key), "en", { numeric: true });
      return side * compared || a.at - b.at;
    }).map((entry) => entry.row);
  }

  function drawHead() {
    head.replaceChildren(...visible.map((column) => {
      const index = columns.indexOf(column);
      const state = order.column !== index ? "none" : order.down ? "descending" : "ascending";
      const sort = () => {
        order.down = order.column === index ? !order.down : false;
        order.column = index;
        draw();
        head.children[visible.indexOf(column)].firstChild.focus();
      };
      return make("th", { scope: "col", "aria-sort": state, class: column.text ? "text" : null },
        make("button", { type: "button", onclick: sort }, column.title));
    }));
  }

  function grow(by) {
    const part = document.createDocumentFragment();
    for (const row of shown.slice(made, made + by)) {
      part.append(make("tr", {}, visible.map((column, at) => {
        const content = column.cell(row);
        const long = column.text && typeof content === "string" && content.length > 40;
        return make(at === 0 && headed ? "th" : "td",
          at === 0 && headed ? { scope: "row" } : { class: long ? "long" : column.text ? "text" : null }, content);
      })));
    }
    body.append(part);
    made = Math.min(made + by, shown.length);
    more.hidden = made >= shown.length;
    count.textContent = shown.length === rows.length ? (rows.length > 12 ? `${rows.length} rows` : "")
      : `${shown.length} of ${rows.length} rows`;
  }

  function draw() {
    visible = columns.filter((column) => !column.when || column.when());
    shown = sorted();
    made = 0;
    body.replaceChildren();
    drawHead();
    grow(CHUNK);
  }

  box.addEventListener("scroll", () => {
    if (made < shown.length && box.scrollTop + box.clientHeight > box.scrollHeight - 400) grow(CHUNK);
  });
  draw();
  tables.push({ draw, print: () => grow(Math.max(0, PRINTED - made)) });
  return [box, more];
}

// ---- Table 1 ----

const cellValue = (cell) => {
  const means = (cell ? cell.numbers : []).map((number) => number.mean).filter((mean) => mean !== null);
  return means.length ? means.reduce((a, b) => a + b, 0) / means.length : null;
};

function cellText(cell) {
  const numbers = cell.numbers.filter((number) => number.mean !== null);
  if (!numbers.length) return cell.failed.length ? "failed" : cell.unfinished.length ? "unfinished" : "–";
  const means = numbers.map((number) => fixed(number.mean)).join("/");
  const spread = numbers.every((number) => number.std !== null)
    ? " ± " + numbers.map((number) => fixed(number.std)).join("/") : "";
  return means + spread + (cell.numbers[0].collapsed ? " ⚑" : "") + (cell.seeds.some((seed) => seed[4]) ? " ◇" : "") + (cell.failed.length ? " ✗" : "")
    + (cell.numbers.some((number) => number.reasons.includes("was trained on this task")) ? " §" : "");
}

function published(cell) {
  const numbers = cell.numbers.filter((number) => number.published !== null);
  if (!numbers.length) return "";
  const worst = numbers.map((number) => number.mark).sort().pop();
  return make("span", { class: "paper" }, "paper " + numbers.map((number) => fixed(number.published)).join("/") + worst);
}

const verdictOf = (cell) => [...new Set(cell.numbers.map((number) => number.verdict))].join(", ");

function cellButton(group, row, title, cell) {
  if (!cell) return "–";
  const text = cellText(cell);
  const open = make("button", {
    type: "button", class: "cell", "aria-label": `${row.title} on ${title}: ${text}. Open`, "aria-haspopup": "dialog",
    onclick: () => openCell(group, row, title, cell),
  }, text);
  return [open, published(cell)].filter((part) => part !== "");
}

const MARKS = ["Open a cell to see its seeds, intervals and runs. ⚑ a run among them collapsed, ◇ a checkpoint was chosen before the rank budget was reached, ✗ a run failed, § the backbone was trained on this task."];

// Several numbers of a cell, as short as the papers name them.
const SHORT = { accuracy: "Acc", f1: "F1", "matched accuracy": "m", "mismatched accuracy": "mm" };

function table1(group) {
  const taskColumn = (task) => ({
    title: task.title + (task.metrics.length > 1 ? " " + task.metrics.map((metric) => SHORT[metric] || metric).join("/") : ""),
    value: (row) => cellValue(row.cells[task.name]),
    cell: (row) => cellButton(group, row, task.title, row.cells[task.name]),
    when: () => !filter.task || filter.task === task.name,
  });
  const columns = [
    { title: "Method", text: true, value: (row) => row.title,
      cell: (row) => [row.title, row.paper ? make("span", { class: "paper" }, row.paper) : ""].filter((part) => part !== "") },
    { title: "Allocated", value: (row) => row.allocated, cell: (row) => short(row.allocated) },
    { title: "Effective", value: (row) => row.effective, cell: (row) => short(row.effective) },
    ...group.tasks.map(taskColumn),
    { title: "Average", value: (row) => cellValue(row.average),
      cell: (row) => cellButton(group, row, "the average of the eight tasks", row.average),
      when: () => !filter.task && group.rows.some((row) => cellValue(row.average) !== null) },
    { title: "Verdict", text: true, value: (row) => verdictOf(row.average), cell: (row) => verdictOf(row.average) },
  ];
  return table({
    label: "Table 1: " + group.title, columns, rows: group.rows,
    keys: (row) => ({ task: Object.keys(row.cells), method: row.method, variant: row.variant, device: row.devices, commit: row.commits }),
  });
}

// ---- what a cell opens to ----

function openCell(group, row, title, cell) {
  const item = (name, content) => [make("dt", {}, name), make("dd", {}, content)];
  const interval = (pair, format = fixed) => `${format(pair[0])} to ${format(pair[1])}`;
  const facts = [];
  for (const number of cell.numbers) {
    const name = [number.dev_set === "dev" ? "" : number.dev_set, number.metric].filter((part) => part).join(" ") || "score";
    facts.push(make("h3", {}, `${group.scored}, ${name}`));
    const list = make("dl");
    if (number.mean !== null) list.append(...item("Mean over seeds", fixed(number.mean) + (number.std === null ? "" : ` ± ${fixed(number.std)}`) + ` (${number.seeds} seed${number.seeds === 1 ? "" : "s"})`));
    if (number.interval) list.append(...item("95 % interval, over seeds", interval(number.interval)));
    if (number.resolution !== null) list.append(...item("Resolution", `one test example is worth ${fixed(number.resolution)} points`));
    if (number.published !== null) {
      list.append(...item("Published", `${fixed(number.published)}${number.mark} (${row.paper}; ${number.source || "no source"})`));
    }
    if (number.difference) {
      const [difference, low, high] = number.difference;
      list.append(...item("Difference to the published", `${signed(difference)}, 90 % interval ${interval([low, high], signed)}, p ${probability(number.p)}, margin ±${fixed(number.margin)}`));
    }
    list.append(...item("Verdict", number.verdict + (number.reasons ? ": " + number.reasons : "")));
    if (number.seeds_needed) list.append(...item("Seeds for a decision", String(number.seeds_needed)));
    if (number.not_stated) list.append(...item("Not stated in the publication", number.not_stated));
    facts.push(list);
  }
  if (cell.paired) {
    const test = cell.paired, list = make("dl");
    facts.push(make("h3", {}, `Against ${test.reference}, seed by seed`), list);
    list.append(...item("Difference", test.difference === null ? "no common seed" : `${signed(test.difference)} points over ${test.pairs} seeds`));
    if (test.interval) list.append(...item("95 % interval, over seeds", interval(test.interval, signed)));
    list.append(...item("p", `paired t ${probability(test.p_t)}, after Holm ${probability(test.p_holm)}, sign flip ${probability(test.p_sign_flip)}`));
    if (test.examples) list.append(...item("95 % interval, over examples", interval(test.examples, signed)));
  }
  if (cell.seeds.length) facts.push(make("h3", {}, "Seeds"), seedTable(cell));
  if (cell.failed.length) facts.push(make("h3", {}, "Failed or damaged"), make("ul", {}, cell.failed.map(([run, reason]) => make("li", {}, make("code", {}, run), ": " + reason))));
  if (cell.runs.length) facts.push(make("h3", {}, "Runs"), ...cell.runs.slice(0, 50).map(runDetails));
  if (cell.runs.length > 50) facts.push(make("p", {}, `and ${cell.runs.length - 50} more in the table of runs`));
  showDialog(`${row.title} on ${title}`, group.title, facts);
}

function seedTable(cell) {
  const line = ([seed, parts, run, collapsed, early]) => make("tr", {}, make("th", { scope: "row" }, String(seed)),
    make("td", {}, parts.map((part) => fixed(part)).join("/") + (collapsed ? " ⚑ collapsed" : "") + (early ? " ◇ before the final budget" : "")),
    make("td", { class: "text" }, make("code", {}, runValue("run", run))));
  const heads = ["Seed", "Test score", "Run"].map((title) => make("th", { scope: "col" }, title));
  return make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Seeds" }, make("table", {}, make("thead", {}, make("tr", {}, heads)), make("tbody", {}, cell.seeds.map(line))));
}

function runDetails(index) {
  const names = ["status", "origin", "seed", "epochs", "batch_size", "lr", "options", "precision", "split", "backbone", "effective", "epoch_seconds", "wall_seconds", "device", "commit", "recipe", "failure"];
  const list = make("dl");
  for (const name of names) {
    const value = runValue(name, index);
    if (value !== null && value !== "") list.append(make("dt", {}, runs[name].title), make("dd", {}, String(value)));
  }
  list.append(make("dt", {}, "Files"), make("dd", {}, make("a", { href: runPath(index) + "/" }, runPath(index))));
  return make("details", {}, make("summary", {}, make("code", {}, runValue("run", index)), ", " + runValue("status", index)), list);
}

function showDialog(title, subtitle, content) {
  const dialog = make("dialog", { "aria-labelledby": "dialog-title" });
  const close = make("button", { type: "button", class: "close", onclick: () => dialog.close() }, "Close");
  dialog.append(close, make("h2", { id: "dialog-title" }, title), make("p", { class: "paper" }, subtitle), ...content);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  dialog.showModal();
}

// ---- time and parameters ----

function picture(group) {
  const rows = group.picture.rows;
  if (!rows.length) return [];
  const largest = (of) => Math.max(...rows.map((row) => of(row) || 0), 1e-12);
  const seconds = largest((row) => row.seconds), parameters = largest((row) => row.allocated);
  const bar = (value, most, text) => {
    const fill = make("i", { "aria-hidden": "true" });
    fill.style.width = (8 * Math.max(0, value || 0) / most).toFixed(2) + "rem";
    return make("span", { class: "bar" }, fill, text);
  };
  const columns = [
    { title: "Method", text: true, value: (row) => row.title, cell: (row) => row.title },
    { title: "Parameters left", text: true, value: (row) => row.effective, cell: (row) => bar(row.effective, parameters, `${short(row.effective)} of ${short(row.allocated)}`) },
    { title: "s/epoch", text: true, value: (row) => row.seconds, cell: (row) => bar(row.seconds, seconds, fixed(row.seconds, 3)) },
    { title: "Ratio to AdaLoRA", value: (row) => row.ratio, cell: (row) => fixed(row.ratio) },
    { title: "Device", text: true, value: (row) => row.device, cell: (row) => row.device },
  ];
  return [make("h3", {}, "Time and parameters"), ...table({
    label: "Time and parameters: " + group.title, columns, rows,
    keys: (row) => ({ method: row.method, variant: row.variant, device: row.device }),
  }), make("p", { class: "notes" }, group.picture.how)];
}

// ---- tables by their texts ----

function number(text) {
  const found = /^[<≥≤+]?\s*(-?[\d,]*\.?\d+(?:e-?\d+)?)\s*([kM])?(?![\w-])/.exec(text.replace("−", "-"));
  if (!found) return text;
  return parseFloat(found[1].replace(/,/g, "")) * ({ k: 1e3, M: 1e6 }[found[2]] || 1);
}

function textTable(doc) {
  const rows = doc.rows.map((cells, at) => ({ cells, at }));
  const isNumeric = (index) => doc.rows.some((cells) => typeof number(cells[index]) === "number");
  const columns = doc.header.map((title, index) => ({
    title: title || " ", text: index === 0 || !isNumeric(index),
    value: (row) => (isNumeric(index) ? number(row.cells[index]) : row.cells[index]), cell: (row) => row.cells[index],
  }));
  const keys = ({ at }) => Object.fromEntries(FILTERS.map(([name]) => [name, doc.keys[name].length ? doc.keys[name][at] : null]));
  return make("section", {}, make("h2", {}, doc.title), ...table({ label: doc.title, columns, rows, keys, tall: rows.length > 40 }), notes(doc.notes));
}

const notes = (lines) => (lines.length ? make("ul", { class: "notes" }, lines.map((line) => make("li", {}, line))) : "");

// ---- runs ----

function runTable() {
  const rows = Array.from({ length: runCount }, (_, index) => index);
  const columns = data.runs.filter((column) => column.name !== "title").map((column) => {
    const get = runs[column.name].get;
    const cell = {
      run: (i) => make("a", { href: runPath(i) + "/" }, get(i)),
      method: (i) => runValue("title", i),
      score: (i) => fixed(get(i)),
      lr: (i) => String(get(i)),
      effective: (i) => short(get(i)),
    }[column.name] || ((i) => (get(i) === null ? "–" : String(get(i))));
    return { title: column.title, text: Boolean(column.texts), value: get, cell };
  });
  const keys = (i) => Object.fromEntries(FILTERS.map(([name]) => [name, runValue(name, i)]));
  return make("section", {}, make("h2", {}, "Runs"),
    ...table({ label: "Runs", columns, rows, keys, tall: true }));
}

// ---- points of figures ----

function figures() {
  const tip = document.getElementById("tip");
  const show = (spot) => {
    const place = spot.getBoundingClientRect();
    tip.textContent = spot.getAttribute("aria-label");
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(place.right + 6, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = Math.max(4, Math.min(place.bottom + 6, innerHeight - tip.offsetHeight - 8)) + "px";
  };
  const hide = () => { tip.hidden = true; };
  for (const group of document.querySelectorAll(".spots")) {
    const spot = (event) => event.target.closest("circle");
    group.addEventListener("pointerover", (event) => spot(event) && show(spot(event)));
    group.addEventListener("pointerout", hide);
    group.addEventListener("focusin", (event) => show(spot(event)));
    group.addEventListener("focusout", hide);
    group.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const all = group.children, at = Array.prototype.indexOf.call(all, spot(event));
      const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step ? at + step : -1;
      if (event.key === "Escape") hide();
      if (next < 0 || next >= all.length) return;
      event.preventDefault();
      all[at].setAttribute("tabindex", -1);
      all[next].setAttribute("tabindex", 0);
      all[next].focus();
    });
  }
}

// ---- the page ----

function start() {
  const first = document.getElementById("first");
  if (runCount) first.append(filterBar());
  for (const group of data.groups) {
    first.append(make("section", {}, make("h2", {}, "Table 1: " + group.title), ...table1(group), ...picture(group), notes([...MARKS, ...group.notes])));
  }
  document.getElementById("tables").append(...data.tables.map(textTable));
  if (runCount) document.getElementById("runs").append(runTable());
  figures();
  addEventListener("beforeprint", () => tables.forEach((table) => table.print()));
}

start();
