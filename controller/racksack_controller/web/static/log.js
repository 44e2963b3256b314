// The log of a job: a window on it that is moved over the log in parts, however long it is. Colours as in a terminal;
// of a line that is written over again and again (a progress bar) the last state.
"use strict";
(() => {
  const PART = 64 * 1024, WINDOW = 8, FOLLOW_S = 25, PAUSE_MS = 3000;
  const decoder = () => new TextDecoder("utf-8");
  // What steers a terminal: colours are group 1, all else is left out.
  const STEERING = /\x1b\[([\d;]*)m|\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]/g;

  const plain = () => ({ fg: null, bg: null, bold: false, dim: false, italic: false, under: false });

  function colour(codes, at) { // 38;5;N and 38;2;R;G;B
    if (codes[at + 1] === 5) return [codes[at + 2] < 16 ? codes[at + 2] : cube(codes[at + 2]), 2];
    if (codes[at + 1] === 2) return [`rgb(${codes.slice(at + 2, at + 5).map(one => Math.min(255, one || 0)).join(",")})`, 4];
    return [null, 0];
  }

  function cube(code) {
    if (code > 231) { const grey = 8 + 10 * (code - 232); return `rgb(${grey},${grey},${grey})`; }
    const level = one => (one ? 55 + 40 * one : 0), index = code - 16;
    return `rgb(${level(Math.floor(index / 36))},${level(Math.floor(index / 6) % 6)},${level(index % 6)})`;
  }

  function styled(style, parameters) {
    const codes = (parameters || "0").split(";").map(Number), next = { ...style };
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) Object.assign(next, plain());
      else if (code === 1) next.bold = true;
      else if (code === 2) next.dim = true;
      else if (code === 3) next.italic = true;
      else if (code === 4) next.under = true;
      else if (code === 22) next.bold = next.dim = false;
      else if (code === 23) next.italic = false;
      else if (code === 24) next.under = false;
      else if (code >= 30 && code <= 37) next.fg = code - 30;
      else if (code >= 90 && code <= 97) next.fg = code - 82;
      else if (code === 39) next.fg = null;
      else if (code >= 40 && code <= 47) next.bg = code - 40;
      else if (code >= 100 && code <= 107) next.bg = code - 92;
      else if (code === 49) next.bg = null;
      else if (code === 38 || code === 48) {
        const [found, used] = colour(codes, at);
        next[code === 38 ? "fg" : "bg"] = found;
        at += used;
      }
    }
    return next;
  }

  function span(text, style) {
    const made = document.createElement("span");
    for (const [key, prefix] of [["fg", "f"], ["bg", "b"]]) {
      if (typeof style[key] === "number") made.classList.add(`${prefix}${style[key]}`);
      else if (style[key] !== null) made.style.setProperty(key === "fg" ? "color" : "background-color", style[key]);
    }
    for (const key of ["bold", "dim", "italic", "under"]) if (style[key]) made.classList.add(key);
    made.textContent = text;
    return made;
  }

  // A line -> nodes, and the style at its end.
  function line(text, style) {
    const shown = text.includes("\r") ? text.split("\r").filter(part => part !== "").pop() ?? "" : text;
    const found = document.createDocumentFragment();
    let from = 0, now = style;
    const put = piece => { if (piece) found.append(JSON.stringify(now) === JSON.stringify(plain()) ? piece : span(piece, now)); };
    for (const one of shown.matchAll(STEERING)) {
      put(shown.slice(from, one.index));
      if (one[1] !== undefined) now = styled(now, one[1]);
      from = one.index + one[0].length;
    }
    put(shown.slice(from));
    return [found, now];
  }

  class LogView {
    constructor(root) {
      this.root = root;
      this.url = root.dataset.log;
      this.pre = root.querySelector("pre");
      this.parts = []; // {start, end, text, node}: consecutive bytes of the log
      this.ended = false;
      this.follows = true;
      this.isAlive = true;
      this.busy = false;
      this.bar();
      this.pre.addEventListener("scroll", () => this.scrolled(), { passive: true });
      this.toEnd();
    }

    bar() {
      const bar = document.createElement("div");
      bar.className = "logbar";
      const button = (text, act) => {
        const made = document.createElement("button");
        made.type = "button";
        made.className = "quiet";
        made.textContent = text;
        made.addEventListener("click", act);
        bar.append(made);
        return made;
      };
      button("Start", () => { this.follow(false); this.show(0, false); });
      button("End", () => { this.follow(true); this.toEnd(); });
      this.followButton = button("Follow", () => { this.follow(!this.follows); if (this.follows) this.toEnd(); });
      this.search = document.createElement("input");
      Object.assign(this.search, { type: "search", placeholder: "Search", maxLength: 100 });
      this.search.setAttribute("aria-label", `Search ${this.root.dataset.name}`);
      this.search.addEventListener("keydown", event => { if (event.key === "Enter") { event.preventDefault(); this.find(); } });
      bar.append(this.search);
      button("Next", () => this.find());
      this.status = document.createElement("output");
      bar.append(this.status);
      this.root.insertBefore(bar, this.pre);
      this.follow(true);
    }

    follow(follows) {
      this.follows = follows;
      this.followButton.setAttribute("aria-pressed", String(follows));
    }

    async ask(query) {
      const answer = await fetch(`${this.url}${this.url.includes("?") ? "&" : "?"}${new URLSearchParams(query)}`, { signal: AbortSignal.timeout(60000) });
      if (!answer.ok) throw new Error((await answer.json()).error);
      return answer;
    }

    // Bytes of the log as a part; of the first and last line what is there.
    async part(offset, limit, wait_s = 0) {
      const answer = await this.ask({ offset, limit, wait_s });
      const bytes = new Uint8Array(await answer.arrayBuffer()), end = Number(answer.headers.get("Racksack-Offset"));
      return { start: end - bytes.length, end, bytes, ended: answer.headers.get("Racksack-Ended") === "1" };
    }

    async alone(work) {
      if (this.busy) return;
      this.busy = true;
      try {
        await work();
        if (this.status.dataset.isProblem) { this.status.textContent = ""; delete this.status.dataset.isProblem; }
      } catch (error) {
        this.status.textContent = error.message;
        this.status.dataset.isProblem = "1";
      } finally {
        this.busy = false;
      }
    }

    draw() {
      this.pre.replaceChildren(...this.parts.map(part => part.node));
      if (!this.parts.length || this.parts.every(part => !part.bytes.length)) this.pre.textContent = this.ended ? "(empty)" : "(nothing yet)";
      this.root.dataset.start = this.parts[0]?.start ?? 0;
      this.root.dataset.end = this.parts.at(-1)?.end ?? 0;
    }

    // Draw a part; lines that go on in the next part are drawn there, so `carry` comes from the one before.
    render(part, carry) {
      const text = carry.decoder.decode(part.bytes, { stream: true });
      const lines = (carry.text + text).split("\n");
      const rest = lines.pop();
      const node = document.createElement("span");
      let style = carry.style;
      for (const one of lines) {
        const [made, after] = line(one, style);
        style = after;
        node.append(made, "\n");
      }
      const [open] = line(rest, style);
      const tail = document.createElement("span");
      tail.append(open);
      node.append(tail);
      // Of a line without an end the last state is enough, or it would grow for ever.
      const overwritten = rest.replace(/\r+$/, "").lastIndexOf("\r");
      part.node = node;
      part.tail = tail;
      part.after = { decoder: carry.decoder, text: overwritten > 0 ? rest.slice(overwritten + 1) : rest, style };
    }

    redraw() {
      let carry = { decoder: decoder(), text: "", style: plain() };
      for (const [index, part] of this.parts.entries()) {
        if (index === 0 && part.start > 0) { // begins within a line, or within a character
          const first = part.bytes.indexOf(10) + 1;
          if (first > 0) { part.bytes = part.bytes.subarray(first); part.start += first; }
        }
        this.render(part, carry);
        if (index < this.parts.length - 1) part.tail.remove();
        carry = part.after;
      }
      this.draw();
    }

    show(offset, atBottom) {
      return this.alone(async () => {
        const found = await this.part(offset, 2 * PART);
        this.parts = [found];
        this.ended = found.ended;
        this.redraw();
        this.pre.scrollTop = atBottom ? this.pre.scrollHeight : 0;
      });
    }

    async toEnd() {
      await this.show(-2 * PART, true);
      this.keepFollowing();
    }

    async keepFollowing() {
      if (this.isFollowing) return;
      this.isFollowing = true;
      while (this.isAlive && this.follows && !this.ended) {
        if (document.hidden || this.busy) { await new Promise(done => setTimeout(done, 500)); continue; }
        const last = this.parts.at(-1);
        let found;
        try {
          found = await this.part(last?.end ?? 0, PART, FOLLOW_S);
        } catch (error) {
          this.status.textContent = error.name === "TimeoutError" ? "no answer" : error.message;
          await new Promise(done => setTimeout(done, PAUSE_MS));
          continue;
        }
        if (!this.follows || this.parts.at(-1) !== last) continue;
        this.status.textContent = "";
        this.ended = found.ended;
        if (found.bytes.length) this.append(found);
      }
      this.isFollowing = false;
      if (this.ended) this.followButton.disabled = true;
    }

    append(found) {
      const last = this.parts.at(-1);
      if (!last || !last.node.parentNode) this.pre.replaceChildren();
      if (last) last.tail.remove();
      this.render(found, last?.after ?? { decoder: decoder(), text: "", style: plain() });
      this.parts.push(found);
      this.pre.append(found.node);
      while (this.parts.length > 2 * WINDOW || this.parts.length > 2 && this.size() > WINDOW * PART) this.parts.shift().node.remove();
      this.root.dataset.start = this.parts[0].start;
      this.root.dataset.end = found.end;
      this.pre.scrollTop = this.pre.scrollHeight;
    }

    size() { return this.parts.at(-1).end - this.parts[0].start; }

    scrolled() {
      const { scrollTop, clientHeight, scrollHeight } = this.pre, isAtEnd = scrollTop + clientHeight >= scrollHeight - 4;
      if (this.busy) return;
      if (this.follows && !isAtEnd && !this.ended) this.follow(false);
      const first = this.parts[0], last = this.parts.at(-1);
      if (scrollTop < 50 && first?.start > 0) this.alone(() => this.earlier(first));
      else if (isAtEnd && last && !this.follows) this.alone(() => this.later(last));
    }

    async earlier(first) {
      const from = Math.max(0, first.start - PART);
      const found = await this.part(from, first.start - from);
      const height = this.pre.scrollHeight, top = this.pre.scrollTop;
      this.parts.unshift(found);
      while (this.parts.length > 1 && this.size() > WINDOW * PART) { this.parts.pop(); this.ended = false; }
      this.redraw();
      this.pre.scrollTop = top + this.pre.scrollHeight - height;
    }

    async later(last) {
      const found = await this.part(last.end, PART);
      if (!found.bytes.length) { this.ended = found.ended; return; }
      const top = this.pre.scrollTop, before = this.parts[0].node.offsetHeight;
      this.parts.push(found);
      let gone = 0;
      while (this.parts.length > 2 && this.size() > WINDOW * PART) { this.parts.shift(); gone += 1; }
      const height = this.pre.scrollHeight;
      this.redraw();
      this.pre.scrollTop = gone ? Math.max(60, top - before) : Math.min(top, height);
    }

    find() {
      const text = this.search.value;
      if (!text) return;
      this.follow(false);
      this.alone(async () => {
        let from = this.foundAt !== undefined && this.foundText === text ? this.foundAt + 1 : 0, isFirstRound = from === 0;
        for (;;) {
          this.status.textContent = `searching at ${(from / 1e6).toFixed(1)} MB`;
          const base = this.url.split("?");
          const answer = await fetch(`${base[0]}/find?${base[1] ? `${base[1]}&` : ""}${new URLSearchParams({ text, offset: from })}`);
          const found = await answer.json();
          if (!answer.ok) throw new Error(found.error);
          if (found.at !== null) { this.foundAt = found.at; this.foundText = text; return await this.reveal(found.at, text); }
          from = found.next;
          if (found.ended && isFirstRound) { this.status.textContent = "not found"; return; }
          if (found.ended) { from = 0; isFirstRound = true; }
        }
      });
    }

    async reveal(at, text) {
      const found = await this.part(Math.max(0, at - PART / 2), PART);
      this.parts = [found];
      this.ended = false;
      this.redraw();
      this.status.textContent = `at ${at.toLocaleString()}`;
      // Within the text that is shown: the first one that is not before the place of the bytes.
      const before = decoder().decode(found.bytes.subarray(0, Math.max(0, at - found.start))).replace(STEERING, "");
      const nth = before.toLowerCase().split(text.toLowerCase()).length - 1;
      const walker = document.createTreeWalker(this.pre, NodeFilter.SHOW_TEXT);
      let seen = 0, last = null;
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        for (let place = node.data.toLowerCase().indexOf(text.toLowerCase()); place >= 0; place = node.data.toLowerCase().indexOf(text.toLowerCase(), place + text.length)) {
          last = [node, place];
          if (seen === nth) return this.mark(node, place, text.length);
          seen += 1;
        }
      }
      if (last) this.mark(last[0], last[1], text.length);
    }

    mark(node, place, length) {
      const range = document.createRange();
      range.setStart(node, place);
      range.setEnd(node, Math.min(node.data.length, place + length));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      const box = range.getBoundingClientRect(), own = this.pre.getBoundingClientRect();
      this.pre.scrollTop += box.top - own.top - own.height / 3;
    }
  }

  const views = new Map();
  function look() {
    for (const [root, view] of views) if (!root.isConnected) { view.isAlive = false; views.delete(root); }
    for (const root of document.querySelectorAll("[data-log]")) if (!views.has(root)) views.set(root, new LogView(root));
  }
  document.addEventListener("racksack:changed", look);
  look();
})();
