// The document: what is on top, and the tree. Sections fill themselves when they are first opened.

// Items of a list that are drawn at first, and at once when more are asked for.
const FIRST = 50;
const MORE = 200;
// Items that are opened at once.
const MOST_EXPANDED = 500;

const notes = JSON.parse(document.getElementById("notes").textContent);
const run = new Run(JSON.parse(document.getElementById("events").textContent), new Map(notes.raw));
// The items that are shown while something is looked for, or null: all.
let kept = null;

const $ = id => document.getElementById(id);

// --- The top

function badge(text, style) {
  return put(element("span", { class: `badge ${style ?? ""}` }), line(text, 40));
}

function facts(pairs) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of pairs) {
    if (value === "" || value === null || value === undefined) continue;
    list.append(element("div", {}, element("dt", {}, name), put(element("dd"), String(value))));
  }
  return list;
}

function table(heads, rows) {
  const cell = (tag, value, index) => put(element(tag, index ? { class: "number" } : {}), String(value));
  return element("div", { class: "scroll" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head, index) => cell("th", head, index)))),
    element("tbody", {}, ...rows.map(row => element("tr", {}, ...row.map((value, index) => cell("td", value, index)))))));
}

function head() {
  const { start, end, answer, tree } = run;
  const root = tree.children.find(item => item.kind === "node");
  const question = start?.question ?? root?.data?.question ?? "(no question is recorded)";
  document.title = `${line(question, 60).replace(UNSEEN, unseen)} · AgentKernel`;
  const endings = { "answered": "good", "failed": "bad", "limit": "warn", "interrupted": "warn" };
  const status = element("p", { class: "status" },
    end ? badge(end.ending, endings[end.ending]) : badge("no end recorded", "warn"),
    end ? null : " The run was stopped, or goes on.",
    answer?.["best-effort"] ? badge("best effort", "warn") : null,
    end?.message ? put(element("span"), ` ${end.message}`) : null);
  const top = element("div", { class: "top" }, element("h1", { dir: "auto" }));
  put(top.firstChild, line(question, 300));
  if (Array.from(question).length > 300) top.append(fold("The whole question", () => [box(question)]));
  top.append(status);
  if (answer) top.append(element("div", { class: "answer" }, box(answer.content, "prose")));
  const used = tree.total;
  const nodes = run.nodes.size;
  top.append(facts([
    ["Time", duration(tree.end)], ["Cost", price(used)],
    ["Tokens, in → out", tokens(used)], ["Requests to models", count(used.calls)],
    ["From the cache", used.cached ? count(used.cached) : ""], ["Calls of programs", count(run.calls.size)],
    ["Nodes", count(nodes)], ["Errors", tree.errors ? count(tree.errors) : ""],
  ]));
  top.append(flight());
  const models = fold("By model", () => [byModel()]);
  models.open = Object.keys(run.end?.totals ?? {}).length + run.models.size <= 12;
  top.append(models);
  if (start) {
    top.append(fold("Limits and versions", () => [facts([
      ["Model", start.model], ["Sub-model", start["sub-model"]], ["Started", start.time],
      ["AgentKernel", start.agentkernel],
      ...Object.entries(start.limits).map(([name, limit]) => [name, limit === null ? "none" : limit]),
    ])]));
  }
  $("head").append(top);
  if (start && start.version > 1) {
    warn(`The trajectory has version ${start.version} of the format; this page knows version 1.`);
  }
  if (notes.problems.length) problems();
}

function byModel() {
  const row = (name, t) => [name, count(t.calls), count(t.cached), count(t.input), count(t.output), price(t)];
  const rows = run.end
    ? Object.entries(run.end.totals).map(([name, t]) => row(name, {
      calls: t.calls, cached: t.cached, input: t["input-tokens"], output: t["output-tokens"],
      cost: t.cost ?? 0, unknown: (t.cost ?? null) === null ? t.calls : 0,
    }))
    : [...run.models].map(([name, t]) => row(name, t));
  return table(["Model", "Requests", "Cached", "Tokens in", "Tokens out", "Cost"], rows);
}

function warn(...content) {
  $("head").append(element("div", { class: "warning", role: "note" }, ...content));
}

function problems() {
  const all = notes.problems.length + notes.more;
  const list = fold("Which", () => [
    ...notes.problems.map(({ line, problem, text }) =>
      element("div", {}, put(element("p"), `Line ${line}: ${problem}`), box(text))),
    notes.more ? `… and ${count(notes.more)} more.` : "",
  ]);
  const [{ line, problem }] = notes.problems;
  const text = all === 1 ? `Line ${line} is not shown: ${problem}.` : `${count(all)} lines are not shown.`;
  warn(put(element("span"), text), list);
}

function fold(title, fill) {
  const details = element("details", { class: "fold" }, element("summary", {}, title));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...fill());
  });
  return details;
}

// Calls in flight over the time of the run.
function flight() {
  if (!run.calls.size) return null;
  const [waiting, flying] = [run.inFlight(400, true), run.inFlight(400, false)];
  const most = pieces => pieces.reduce((most, now) => Math.max(most, now), 1);
  const top = most(waiting);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 400 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const [pieces, style] of [[waiting, "waited"], [flying, "model"]]) {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const path = pieces.map((now, index) => `V${40 - 40 * now / top}H${index + 1}`).join("");
    shape.setAttribute("d", `M0 40${path}V40Z`);
    shape.setAttribute("class", style);
    svg.append(shape);
  }
  const more = top > most(flying) ? `; with those that wait for their turn ${count(top)}` : "";
  return element("figure", {},
    element("figcaption", {}, `Calls in flight over the time of the run: at most ${count(most(flying))}${more}`),
    svg, axis(0, run.tree.end));
}

function axis(from, to) {
  const marks = [0, 0.25, 0.5, 0.75, 1].map(part => duration(from + (to - from) * part));
  return element("div", { class: "axis", "aria-hidden": "true" }, ...marks.map(mark => element("span", {}, mark)));
}

// --- The tree

// A bar on an axis of `span`; pieces are [from, to, class].
function bar(span, pieces) {
  const track = element("span", { class: "track", "aria-hidden": "true" });
  const length = span.end - span.at || 1;
  const percent = at => Math.min(100, Math.max(0, (at - span.at) / length * 100));
  for (const [from, to, style] of pieces) {
    const piece = element("span", { class: style });
    piece.style.left = `${percent(from)}%`;
    piece.style.width = `${Math.max(0, percent(to) - percent(from))}%`;
    track.append(piece);
  }
  return track;
}

function pieces(item) {
  if (item.kind === "iteration") {
    const found = [];
    if (item.reply) found.push([item.reply.at - item.reply.ms, item.reply.at, "model"]);
    for (const block of item.children) {
      if (block.kind === "block") found.push([block.at, block.end, block.error ? "code bad" : "code"]);
    }
    return found;
  }
  if (item.kind === "node" && item.children.length <= 200) {
    return item.children.filter(child => child.kind === "iteration").flatMap(pieces);
  }
  const style = item.error ? "bad" : item.kind === "call" && item.data?.kind === "ask-llm" ? "model" : "code";
  const waited = item.returned?.["waited-ms"] ?? 0;
  return [[item.at, item.at + waited, "waited"], [item.at + waited, item.end, style]];
}

function row(item, span, title, content, badges = []) {
  const name = element("span", { class: "name" }, element("b", {}, title), " ");
  put(name, content);
  const time = item.unfinished ? "not finished" : duration(item.returned?.ms ?? item.end - item.at);
  const summary = element("summary", {}, name,
    element("span", { class: "badges" }, ...badges, item.errors && !item.error ? badge(`${many(item.errors, "error")} below`, "bad") : null),
    element("span", { class: "cell" }, tokens(item.total, short)),
    element("span", { class: "cell" }, price(item.total)),
    element("span", { class: "cell" }, time),
    bar(span, pieces(item)));
  return summary;
}

function section(item, summary, fill) {
  const details = element("details", { class: `item ${item.kind}${item.error ? " error" : ""}` }, summary);
  item.element = details;
  // The event of opening comes later; who opens by program and goes on at once fills it first.
  details.fill = () => {
    if (details.childElementCount > 1) return;
    details.append(element("div", { class: "body" }, ...[fill()].flat(Infinity).filter(Boolean)));
  };
  if (item.open) {
    details.fill();
    details.open = true;
  }
  details.addEventListener("toggle", () => {
    item.open = details.open;
    if (item.open) details.fill();
  });
  return details;
}

function shown(items) {
  return kept === null ? items : items.filter(item => kept.has(item));
}

function below(item, kinds, span = item) {
  return series(item, shown(item.children).filter(child => kinds.includes(child.kind)), span);
}

// The items of a list, the first of them if there are many; `item` remembers how many were drawn.
function series(item, items, span) {
  const list = element("div");
  const buttons = element("p", { class: "more" });
  let drawn = 0;
  const more = number => {
    const until = Math.min(items.length, drawn + number);
    list.append(...items.slice(drawn, until).map(child => draw(child, span)));
    drawn = item.drawn = until;
    const rest = items.length - drawn;
    buttons.replaceChildren();
    if (rest > MORE) buttons.append(element("button", { onclick: () => more(MORE) }, `${MORE} more`), " ");
    if (rest) list.append(buttons);
    if (rest) buttons.append(element("button", { onclick: () => more(rest) }, `All ${count(rest)} more`));
    else buttons.remove();
  };
  more(Math.max(FIRST, item.drawn ?? 0, items.findLastIndex(child => child.wanted) + 1));
  return list;
}

const DRAWN = { node, iteration, block, call, note, answer, raw };

function draw(item, span) {
  return DRAWN[item.kind](item, span);
}

function node(item, span) {
  const { data } = item;
  const title = `Node ${item.id}`;
  return section(item, row(item, span, title, line(data?.question), item.answer?.["best-effort"] ? [badge("best effort", "warn")] : []), () => {
    const own = spent();
    for (const child of item.children) add(own, child.own);
    const context = data?.context ?? [];
    return [
      facts([
        ["Model", data?.model], ["Depth", data?.depth],
        ["Own tokens", tokens(own)], ["Own cost", price(own)],
        ["With all below", tokens(item.total)], ["Cost with all below", price(item.total)],
      ]),
      data?.question && data.question !== run.start?.question ? labelled("Question", box(data.question, "prose")) : null,
      context.length ? fold(`Context: ${many(context.length, "file")}, ${bytes(context.reduce((sum, part) => sum + part.bytes, 0))}`,
        () => [table(["Name", "Bytes", "Characters"],
          context.map(part => [part.name, count(part.bytes), part.chars === undefined ? "" : count(part.chars)]))]) : null,
      item.children.length ? axis(item.at, item.end) : null,
      below(item, Object.keys(DRAWN)),
    ];
  });
}

function iteration(item, span) {
  const { prompt, reply } = item;
  const prose = reply ? reply.text.replace(/^[ \t]*```[^]*?(?:^[ \t]*```[ \t]*$|$(?![^]))/gmu, "").trim() : "";
  const badges = [];
  if (reply?.error) badges.push(badge(reply.error.kind, "bad"));
  if (reply?.cached) badges.push(badge("cached"));
  const blocks = item.children.filter(child => child.kind === "block");
  return section(item, row(item, span, `Step ${item.number}`, line(prose || blocks[0]?.data?.code), badges), () => [
    prompt ? fold(`Prompt: ${many(prompt.messages.length, "new message")}`, () => prompt.messages.map(({ role, content }) =>
      labelled(role, box(content, "prose")))) : null,
    reply?.error ? failure(reply.error) : null,
    prose ? labelled(reply.model, box(prose, "prose")) : null,
    reply && prose !== reply.text ? fold("The whole reply", () => [box(reply.text, "prose")]) : null,
    below(item, ["note", "block", "raw"]),
  ]);
}

function block(item) {
  const { data, output } = item;
  const calls = item.children.filter(child => child.kind === "call");
  const made = element("section", { class: `block${item.error ? " error" : ""}` });
  item.element = made;
  if (data) made.append(labelled(`Code ${item.number}`, box(data.code, "code")));
  if (calls.length) made.append(callList(item, shown(calls), calls));
  if (output) {
    const label = element("span", {}, "Output ", badge(output.ending, item.error ? "bad" : ""), ` ${duration(output.ms)}`,
      output.cut ? `, ${count(output.cut)} characters cut` : "");
    made.append(labelled(label, box(output.text, item.error ? "bad" : "")));
    if (output.exception && !output.text.includes(output.exception.message)) made.append(failure({ kind: output.exception.type, message: output.exception.message }));
  } else {
    made.append(element("p", { class: "faint" }, "No end of this block is recorded."));
  }
  return made;
}

function callList(item, calls, all) {
  const failed = all.filter(call => call.error).length;
  const title = many(all.length, "call");
  const found = calls.length < all.length ? `, ${count(calls.length)} shown` : "";
  const list = element("div", { class: "calls" },
    element("p", { class: "label" }, title + found, failed ? badge(`${count(failed)} failed`, "bad") : null));
  if (!calls.length) return list;
  list.append(axis(item.at, item.end), series(item, calls, item));
  return list;
}

function call(item, span) {
  const { data, returned } = item;
  const badges = [];
  if (returned?.error) badges.push(badge(returned.error.kind, "bad"));
  if (returned?.cached) badges.push(badge("cached"));
  const content = line(data?.prompt ?? returned?.text);
  return section(item, row(item, span, `${item.id} ${data?.kind ?? ""}`, content, badges), () => [
    facts([
      ["Model", data?.model], ["Began", duration(item.at)], ["Waited", returned?.["waited-ms"] ? duration(returned["waited-ms"]) : ""],
      ["Time", returned ? duration(returned.ms) : "not finished"], ["Tokens, in → out", tokens(item.total)],
      ["Cost", price(item.total)],
    ]),
    returned?.error ? failure(returned.error) : null,
    data?.system ? labelled("System", box(data.system, "prose")) : null,
    data ? labelled(size("Prompt", data.prompt, data["prompt-chars"]), box(data.prompt, "prose")) : null,
    below(item, ["node", "raw"]),
    returned && !returned.error ? labelled(size("Answer", returned.text, returned.chars), box(returned.text, "prose")) : null,
  ]);
}

function note(item) {
  return item.element = put(element("p", { class: "note" }), item.data.text);
}

function answer(item) {
  const { how, content } = item.data;
  const label = element("span", {}, "Answer ", badge(how), item.data["best-effort"] ? badge("best effort", "warn") : null);
  return item.element = element("section", { class: "answer" }, labelled(label, box(content, "prose")));
}

function raw(item) {
  const text = `${line(item.data.event, 40)}: ${item.reason}`;
  const made = fold("", () => [box(JSON.stringify(item.data, null, 2))]);
  put(made.firstChild, `Shown as it stands: ${text}`);
  made.classList.add("raw");
  return item.element = made;
}

function failure({ kind, message }) {
  return element("p", { class: "failure", dir: "auto" }, put(element("b"), kind), put(element("span"), `: ${message}`));
}

function labelled(label, content) {
  const head = element("p", { class: "label" });
  typeof label === "string" ? put(head, label) : head.append(label);
  return element("div", { class: "labelled" }, head, content);
}

function size(name, text, whole) {
  const there = Array.from(text).length;
  return `${name}, ${count(whole)} characters${there < whole ? `, the first ${count(there)} recorded` : ""}`;
}

function paint() {
  $("tree").replaceChildren(below(run.tree, Object.keys(DRAWN)));
}

// --- Finding

const MOST_OPENED = 20;
let found = [];
let current = -1;
// What was open before something was looked for.
let before = null;

function look() {
  const words = $("find").value.trim();
  const onlyErrors = $("errors").checked;
  sought = words ? new RegExp(words.replace(/[\\^$.*+?()[\]{}|/-]/gu, "\\$&"), "giu") : null;
  if (kept) {
    for (const item of run.items) item.open = before.has(item);
  }
  kept = null;
  found = [];
  current = -1;
  $("found").textContent = "";
  if (words || onlyErrors) {
    const matches = item => {
      if (item.kind === "run" || onlyErrors && !item.error && item.kind !== "raw") return false;
      return !sought || item.texts().some(text => text && text.search(sought) >= 0);
    };
    found = run.items.filter(matches);
    before = new Set(run.items.filter(item => item.open));
    kept = new Set();
    for (const item of found) {
      for (let above = item; above && !kept.has(above); above = above.parent) {
        kept.add(above);
        if (above !== item) above.open = true;
      }
    }
    for (const item of found.slice(0, MOST_OPENED)) item.open = true;
    $("found").textContent = many(found.length, "place");
  }
  paint();
}

let soon;
$("find").addEventListener("input", () => {
  clearTimeout(soon);
  soon = setTimeout(look, 150);
});
$("errors").addEventListener("change", look);

function setAll(open) {
  let left = open ? MOST_EXPANDED : 0;
  let more = 0;
  for (const item of kept ? run.items.filter(item => kept.has(item)) : run.items) {
    item.open = left > 0;
    if (!open) item.drawn = 0;
    if (!["node", "iteration", "call"].includes(item.kind)) continue;
    if (left > 0) left--;
    else more++;
  }
  paint();
  if (open && more) $("found").textContent = `The first ${MOST_EXPANDED} are expanded`;
}
$("open").addEventListener("click", () => setAll(true));
$("close").addEventListener("click", () => setAll(false));

// Goes to the next place that was found, or else to the next error.
const errors = run.items.filter(item => item.error);
function toNext(step) {
  const [list, name] = kept ? [found, "Place"] : [errors, "Error"];
  if (!list.length) return;
  current = current < 0 && step < 0 ? list.length - 1 : (current + step + list.length) % list.length;
  reveal(list[current]);
  $("found").textContent = `${name} ${count(current + 1)} of ${count(list.length)}`;
}

function reveal(item) {
  for (const other of run.items) other.wanted = other === item;
  for (let above = item; above; above = above.parent) above.open = above.wanted = true;
  paint();
  item.element.scrollIntoView({ block: "center" });
  item.element.querySelector("summary, pre")?.focus({ preventScroll: true });
}

// `#c12` is a call, `#0.1` a node.
function toNamed() {
  const name = decodeURIComponent(location.hash.slice(1));
  const item = run.calls.get(name) ?? run.nodes.get(name);
  if (!item) return;
  if (kept && !kept.has(item)) {
    $("find").value = "";
    $("errors").checked = false;
    look();
  }
  reveal(item);
}
window.addEventListener("hashchange", toNamed);

$("next").addEventListener("click", () => toNext(1));

// --- Keys

function headings() {
  return [...$("tree").querySelectorAll("summary")].filter(heading => heading.checkVisibility());
}

function move(step) {
  const all = headings();
  const at = all.indexOf(document.activeElement);
  all[at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step))]?.focus();
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { activeElement } = document;
  if (activeElement === $("find")) {
    if (event.key === "Escape") {
      $("find").value = "";
      look();
      activeElement.blur();
    } else if (event.key === "Enter") {
      toNext(event.shiftKey ? -1 : 1);
    }
    return;
  }
  const heading = activeElement?.matches("summary") ? activeElement : null;
  const details = heading?.parentElement;
  const keys = {
    "/": () => $("find").focus(),
    "e": () => setAll(true), "c": () => setAll(false),
    "n": () => toNext(1), "p": () => toNext(-1),
    "j": () => move(1), "k": () => move(-1),
  };
  if (heading) {
    keys.ArrowDown = keys.j;
    keys.ArrowUp = keys.k;
    keys.ArrowRight = () => {
      if (details.open) {
        move(1);
      } else {
        details.fill?.();
        details.open = true;
      }
    };
    keys.ArrowLeft = () => {
      if (details.open) details.open = false;
      else details.parentElement.closest("details")?.querySelector("summary").focus();
    };
  }
  const act = Object.hasOwn(keys, event.key) ? keys[event.key] : null;
  if (act) {
    event.preventDefault();
    act();
  }
});

head();
paint();
toNamed();
$("foot").append("Keys: / find, n p next and previous place or error, j k move, ← → close and open, e expand, c collapse. " +
  "Texts are as models and programs wrote them; characters that cannot be seen are escaped as in Python: \\x1b, \\u202e.");
