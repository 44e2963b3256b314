// Follows the controller. On news it asks for the body of the page (HTML made and escaped by the server) and changes
// what differs: rows, scroll positions, folded parts, selections and what was typed stay. Times are the reader's.
"use strict";
(() => {
  const content = document.getElementById("content");
  const badge = document.getElementById("live");
  const lost = document.getElementById("lost");
  const SLOWEST_MS = 15000, FASTEST_MS = 700, RETRY_MS = 3000, ANSWER_MS = 20000;
  let ahead_s = Number(content.dataset.now) - Date.now() / 1000; // the controller's clock beside this one
  let version = null, pending = null, asking = false, again = false, answered = new Date();

  const now = () => Date.now() / 1000 + ahead_s;

  // Times.

  const two = number => String(number).padStart(2, "0");

  function duration(seconds) {
    const s = Math.max(0, Math.round(seconds));
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s % 3600 / 60))}m`;
    return `${Math.floor(s / 86400)}d${Math.floor(s % 86400 / 3600)}h`;
  }

  function moment(at_s, isShort) {
    const at = new Date(at_s * 1000), time = `${two(at.getHours())}:${two(at.getMinutes())}`;
    if (isShort) return `${two(at.getDate())}. ${time}`;
    return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}:${two(at.getSeconds())}`;
  }

  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;

  function localise(root) {
    for (const one of root.querySelectorAll("[data-at]")) {
      one.textContent = moment(Number(one.dataset.at), "short" in one.dataset);
      if (one.localName === "time") one.title = `${one.getAttribute("datetime")}, here ${zone}`;
    }
    tick(root);
  }

  function tick(root) {
    const selection = window.getSelection(), at = now();
    for (const one of root.querySelectorAll("time[data-since], time[data-until]")) {
      const text = duration("since" in one.dataset ? at - one.dataset.since : one.dataset.until - at);
      if (one.textContent === text) continue;
      if (!selection.isCollapsed && selection.containsNode(one, true)) continue;
      if (one.firstChild) one.firstChild.nodeValue = text;
      else one.textContent = text;
    }
  }

  // Changes in place.

  const STAYS = ["open", "checked", "value"]; // what the reader has set
  const callbacks = {
    beforeAttributeUpdated: (name, node) => !STAYS.includes(name) || !node.matches("details, input, select, textarea"),
    beforeNodeMorphed: (old, fresh) => !(old.nodeType === 1 && old.dataset?.keep && old.dataset.keep === fresh.dataset?.keep),
  };

  function change(html) {
    const fresh = document.createElement("main");
    fresh.innerHTML = html; // made by the server from templates; the CSP lets no script in it run
    localise(fresh);
    Idiomorph.morph(content, [...fresh.childNodes], { morphStyle: "innerHTML", ignoreActiveValue: true, callbacks });
    document.dispatchEvent(new Event("racksack:changed"));
  }

  function show(isLive) {
    badge.hidden = false;
    badge.className = isLive ? "live on" : "live off";
    badge.textContent = isLive ? "live" : "no answer";
    lost.hidden = isLive;
    content.classList.toggle("stale", !isLive);
    if (!isLive) {
      lost.textContent = `The controller does not answer. This is how it was at ${moment(answered.getTime() / 1000)}; jobs ` +
        "that run go on. Is it stopped, or the connection to it cut? The page goes on by itself when it answers again.";
    }
  }

  async function refresh() {
    pending = null;
    if (!content.dataset.fragment) return;
    if (asking) { again = true; return; }
    asking = true;
    try {
      const headers = version === null ? {} : { "If-None-Match": version };
      const answer = await fetch(content.dataset.fragment, { headers, signal: AbortSignal.timeout(ANSWER_MS) });
      if (!answer.ok && answer.status !== 304) throw new Error(String(answer.status));
      ahead_s = Number(answer.headers.get("Racksack-Now")) - Date.now() / 1000;
      if (answer.status !== 304) change(await answer.text());
      version = answer.headers.get("ETag");
      answered = new Date();
      show(true);
    } catch (error) {
      show(false);
      if (!(error instanceof TypeError) && error.name !== "TimeoutError") console.warn(`refresh: ${error.message}`);
    } finally {
      asking = false;
      if (again) { again = false; soon(); }
    }
  }

  function soon() {
    if (pending === null && !document.hidden) pending = setTimeout(refresh, FASTEST_MS);
  }

  let source = null;
  function listen() {
    source = new EventSource("/api/v1/events");
    source.onmessage = soon;
    source.onopen = soon;
    source.onerror = () => {
      refresh();
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
    };
  }

  document.documentElement.classList.add("js");
  window.racksack = { refresh, now, duration, moment };
  localise(document);
  if (content.dataset.fragment) {
    listen();
    show(true);
    setInterval(refresh, SLOWEST_MS);
  }
  setInterval(() => tick(document), 1000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  window.addEventListener("pagehide", () => source?.close());
})();
