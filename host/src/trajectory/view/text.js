// Text of models and programs in the document: always as text nodes, with what cannot be seen made visible.

const UNSEEN = new RegExp(
  "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u00ad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f" +
  "\\ud800-\\udfff\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]", "gu");
const MOST_MARKS = 2000;
const MOST_COLOURS = 5000;
const LONG = 100_000;

// What is looked for, as a regular expression, or null.
let sought = null;

function element(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children.filter(child => child !== null && child !== undefined));
  return made;
}

function unseen(character) {
  const code = character.codePointAt(0).toString(16);
  return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : code.length <= 4 ? `\\u${code.padStart(4, "0")}` : `\\U${code.padStart(8, "0")}`;
}

// Appends `text` with what is looked for marked and what cannot be seen named.
function put(parent, text, budget = { marks: MOST_MARKS }) {
  const pieces = (text, pattern, found, other) => {
    let from = 0;
    for (const match of pattern === null ? [] : text.matchAll(pattern)) {
      if (match[0] === "") continue;
      if (match.index > from) other(text.slice(from, match.index));
      found(match[0]);
      from = match.index + match[0].length;
    }
    if (from < text.length) other(text.slice(from));
  };
  const shown = (parent, text) => pieces(text, UNSEEN, character => {
    const name = unseen(character);
    parent.append(budget.marks-- > 0 ? element("span", { class: "unseen" }, name) : name);
  }, text => parent.append(text));
  pieces(text, sought, text => {
    const mark = element("mark");
    shown(mark, text);
    parent.append(mark);
  }, text => shown(parent, text));
  return parent;
}

const PYTHON = new RegExp([
  "(?<comment>#[^\\n]*)",
  "(?<string>[rRbBuUfFtT]{0,2}(?:\"\"\"[^]*?(?:\"\"\"|$)|'''[^]*?(?:'''|$)" +
    "|\"(?:\\\\[^]|[^\"\\\\\\n])*\"?|'(?:\\\\[^]|[^'\\\\\\n])*'?))",
  "(?<number>\\b(?:0[xXoObB][\\da-fA-F_]+|\\d[\\d_]*(?:\\.[\\d_]*)?(?:[eE][+-]?\\d+)?j?))",
  "(?<decorator>^[ \\t]*@[\\w.]+)",
  "(?<word>[\\p{L}_][\\p{L}\\p{N}_]*)",
].join("|"), "gmu");
const KEYWORDS = new Set(("False None True and as assert async await break case class continue def del elif else " +
  "except finally for from global if import in is lambda match nonlocal not or pass raise return try while with " +
  "yield").split(" "));
const KNOWN = new Set(("FINAL FINAL_VAR SHOW_VARS answer ask_llm ask_llm_async ask_llm_batch budget context " +
  "llm_query llm_query_batched rlm rlm_query rlm_query_batched").split(" "));

function putCode(parent, code) {
  const budget = { marks: MOST_MARKS };
  let colours = MOST_COLOURS;
  let from = 0;
  for (const match of code.matchAll(PYTHON)) {
    const text = match[0];
    let [kind] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    if (kind === "word") kind = KEYWORDS.has(text) ? "keyword" : KNOWN.has(text) ? "known" : null;
    if (kind === null) continue;
    if (colours-- === 0) break;
    put(parent, code.slice(from, match.index), budget);
    parent.append(put(element("span", { class: kind }), text, budget));
    from = match.index + text.length;
  }
  put(parent, code.slice(from), budget);
}

// A box of text; a long one shows its start and a button.
function box(text, style = "") {
  const pre = element("pre", { class: style, dir: "auto", tabindex: "0" });
  const show = text => style.includes("code") ? putCode(pre, text) : put(pre, text);
  if (text === "") {
    pre.append(element("span", { class: "faint" }, "(empty)"));
  } else if (text.length <= LONG) {
    show(text);
  } else {
    show(text.slice(0, LONG));
    const more = element("button", { onclick: () => {
      pre.textContent = "";
      put(pre, text);
    } }, `Show all ${count(text.length)} characters`);
    pre.append("\n", more);
  }
  const copy = element("button", { class: "copy", title: "Copy", onclick: () => copied(copy, text) }, "Copy");
  return element("div", { class: "box" }, pre, copy);
}

async function copied(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Cannot";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// A number with the noun that fits.
function many(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

// One line of a text, for a heading.
function line(text, most = 160) {
  const start = (text ?? "").slice(0, 4 * most).replace(/\s+/gu, " ").trim();
  const characters = Array.from(start);
  return characters.length > most ? characters.slice(0, most).join("") + "…" : start;
}

function count(number) {
  return Number(number).toLocaleString("en");
}

function duration(ms) {
  if (!(ms >= 0)) return "";
  if (ms < 0.005) return "0 ms";
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const pad = number => String(number).padStart(2, "0");
  return hours ? `${count(hours)} h ${pad(minutes)} min` : `${minutes} min ${pad(whole % 60)} s`;
}

function bytes(number) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit++) number /= 1024;
  return `${unit ? number.toFixed(1) : count(number)} ${units[unit]}`;
}

function dollars(cost) {
  if (cost === 0) return "$0";
  if (cost >= 1) return `$${cost.toFixed(2)}`;
  return cost < 0.0001 ? "< $0.0001" : `$${cost.toFixed(4)}`;
}

function price(used) {
  if (!used.calls) return "";
  if (!used.unknown) return dollars(used.cost);
  return used.cost ? `${dollars(used.cost)} + ?` : "cost unknown";
}

// A number in as little room as a row has.
function short(number) {
  if (number < 100_000) return count(number);
  const [unit, name] = number < 1e6 ? [1e3, "k"] : number < 1e9 ? [1e6, "M"] : [1e9, "G"];
  const units = number / unit;
  return units.toLocaleString("en", { maximumFractionDigits: units < 100 ? 1 : 0 }) + name;
}

function tokens(used, form = count) {
  return used.calls ? `${form(used.input)} → ${form(used.output)}` : "";
}
