"use strict";
// The tree of a run, made from its events. Items are of one shape, whatever they stand for:
// kind, parent, children, at and end (milliseconds), own and total (what was used), error, texts.

const DEEPEST = 400;

function spent() {
  return { calls: 0, input: 0, output: 0, cost: 0, unknown: 0, cached: 0 };
}

function add(to, from) {
  for (const key in to) to[key] += from[key];
}

function usage(event) {
  const { usage, cached } = event;
  return {
    calls: 1, cached: cached ? 1 : 0,
    input: usage["input-tokens"], output: usage["output-tokens"],
    cost: usage.cost ?? 0, unknown: usage.cost === null || usage.cost === undefined ? 1 : 0,
  };
}

class Item {
  constructor(kind, at) {
    this.kind = kind;
    this.at = at;
    this.end = at;
    this.parent = null;
    this.children = [];
    this.own = spent();
    this.total = spent();
    this.error = false;
    this.open = false;
  }

  // Puts this below `parent`, unless that would make a circle or a tree too deep to walk.
  attach(parent) {
    let depth = 0;
    for (let above = parent; above; above = above.parent) {
      if (above === this || ++depth > DEEPEST) return false;
    }
    this.parent?.children.splice(this.parent.children.indexOf(this), 1);
    this.parent = parent;
    parent.children.push(this);
    return true;
  }

  touch(at) {
    for (let item = this; item; item = item.parent) item.end = Math.max(item.end, at);
  }

  use(event) {
    const used = usage(event);
    add(this.own, used);
    return used;
  }

  // What can be searched.
  texts() {
    const { data, reply, prompt, output, returned, reason } = this;
    switch (this.kind) {
      case "node": return [this.id, data?.question, data?.model, ...(data?.context ?? []).map(part => part.name)];
      case "iteration": return [reply?.text, reply?.error?.message, ...(prompt?.messages ?? []).map(m => m.content)];
      case "block": return [data?.code, output?.text, output?.exception?.type, output?.exception?.message];
      case "call":
        return [this.id, data?.model, data?.system, data?.prompt, returned?.text,
          returned?.error?.kind, returned?.error?.message];
      case "note": return [data.text];
      case "answer": return [data.content];
      case "raw": return [JSON.stringify(data), reason];
      default: return [];
    }
  }
}

class Run {
  constructor(events, raw) {
    this.tree = new Item("run", 0);
    this.nodes = new Map();
    this.calls = new Map();
    this.places = new Map();
    this.models = new Map();
    this.start = null;
    this.end = null;
    this.answer = null;
    events.forEach((event, index) => {
      let reason = raw.get(index);
      if (reason === undefined) {
        try {
          this.take(event);
        } catch (error) {
          reason = String(error);
        }
      }
      if (reason !== undefined) this.odd(event, reason);
      this.tree.touch(event.at);
    });
    this.settle();
  }

  take(event) {
    const take = {
      "start": () => { this.start = event; },
      "node": () => this.takeNode(event),
      "prompt": () => { this.iteration(event).prompt = event; },
      "reply": () => this.takeReply(event),
      "code": () => { this.block(event).data = event; },
      "output": () => this.takeOutput(event),
      "call": () => this.takeCall(event),
      "returned": () => this.takeReturned(event),
      "note": () => this.leaf("note", event, this.iteration(event)),
      "answer": () => this.takeAnswer(event),
      "end": () => { this.end = event; },
    }[event.event];
    take();
  }

  node(id, at) {
    let node = this.nodes.get(id);
    if (!node) {
      node = new Item("node", at);
      node.id = id;
      node.open = this.nodes.size === 0;
      node.attach(this.tree);
      this.nodes.set(id, node);
    }
    node.touch(at);
    return node;
  }

  takeNode(event) {
    const node = this.node(event.node, event.at);
    node.data = event;
    const above = this.calls.get(event.call) ?? this.nodes.get(event.parent);
    // One that holds something already stays where it is: trees could be stacked on trees without end.
    if (above && !node.children.length) node.attach(above);
  }

  hang(item, above) {
    if (!item.attach(above)) item.attach(this.tree);
  }

  place(kind, key, number, event, above) {
    let item = this.places.get(key);
    if (!item) {
      item = new Item(kind, event.at);
      item.number = number;
      this.hang(item, above());
      this.places.set(key, item);
    }
    item.touch(event.at);
    return item;
  }

  iteration(event) {
    const { node, iteration } = event;
    const above = () => this.node(node, event.at);
    return this.place("iteration", JSON.stringify([node, iteration]), iteration, event, above);
  }

  block(event) {
    const { node, iteration, block } = event;
    const above = () => this.iteration(event);
    return this.place("block", JSON.stringify([node, iteration, block]), block, event, above);
  }

  takeReply(event) {
    const iteration = this.iteration(event);
    iteration.reply = event;
    iteration.error = Boolean(event.error);
    this.count(event.model, iteration.use(event));
  }

  takeOutput(event) {
    const block = this.block(event);
    block.output = event;
    block.error = !["completed", "exited"].includes(event.ending);
  }

  takeCall(event) {
    if (this.calls.has(event.call)) throw new Error("the call is there already");
    const call = new Item("call", event.at);
    call.id = event.call;
    call.data = event;
    this.hang(call, this.block(event));
    this.calls.set(event.call, call);
  }

  takeReturned(event) {
    let call = this.calls.get(event.call);
    if (!call) {
      call = new Item("call", event.at - event.ms);
      call.id = event.call;
      this.hang(call, this.node(event.node, event.at));
      this.calls.set(event.call, call);
    }
    if (call.returned) throw new Error("the call has returned already");
    call.returned = event;
    call.error = Boolean(event.error);
    call.touch(event.at);
    if (event.usage) this.count(call.data?.model ?? "?", call.use(event));
  }

  takeAnswer(event) {
    const node = this.node(event.node, event.at);
    node.answer = event;
    this.leaf("answer", event, node);
    if (node.parent === this.tree) this.answer ??= event;
  }

  leaf(kind, event, above) {
    const item = new Item(kind, event.at);
    item.data = event;
    this.hang(item, above);
    return item;
  }

  // An event that does not follow the schema stands where it came, as near as it says.
  odd(event, reason) {
    this.leaf("raw", event, this.nodes.get(event.node) ?? this.tree).reason = reason;
  }

  count(model, used) {
    if (!this.models.has(model)) this.models.set(model, spent());
    add(this.models.get(model), used);
  }

  // Sums what items used, and lists them in the order of the page.
  settle() {
    this.items = [];
    const walk = item => {
      this.items.push(item);
      add(item.total, item.own);
      item.errors = item.error ? 1 : 0;
      for (const child of item.children) {
        walk(child);
        add(item.total, child.total);
        item.errors += child.errors;
      }
    };
    walk(this.tree);
    // What has no end goes on to the end of what is known; a killed run leaves such items.
    for (const item of this.items) {
      if (item.kind === "call" && !item.returned || item.kind === "block" && item.data && !item.output) {
        item.unfinished = true;
        item.end = this.tree.end;
      }
    }
    const iterations = this.items.filter(item => item.kind === "iteration");
    const first = this.tree.children[0];
    for (const item of iterations) item.open = iterations.length <= 30 && item.parent === first;
  }

  // How many calls there were in each of `count` equal pieces of the run, at most: those in flight,
  // and with `waiting` those that waited for their turn as well.
  inFlight(count, waiting) {
    const edges = [];
    for (const call of this.calls.values()) {
      const waited = waiting ? 0 : call.returned?.["waited-ms"] ?? 0;
      const from = Math.min(call.end, call.at + waited);
      // The next call may begin before this one's end is recorded, which is no overlap.
      edges.push([from, 1], [call.end - Math.min(0.5, (call.end - from) / 2), -1]);
    }
    // What ends when another begins is no overlap.
    edges.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const pieces = new Array(count).fill(0);
    const piece = at => Math.min(count - 1, Math.max(0, Math.floor(at / (this.tree.end || 1) * count)));
    let now = 0;
    let from = 0;
    for (const [at, change] of edges) {
      const to = piece(at);
      for (; from < to; from++) pieces[from] = Math.max(pieces[from], now);
      now += change;
      pieces[from] = Math.max(pieces[from], now);
    }
    return pieces;
  }
}
