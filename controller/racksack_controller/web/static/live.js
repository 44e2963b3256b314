// Follows the controller: on news, fetches the page's fragment (HTML made and escaped by the server) and shows it.
"use strict";
(() => {
  const content = document.getElementById("content");
  const badge = document.getElementById("live");
  const SLOWEST_MS = 15000, FASTEST_MS = 500;
  let pending = null;

  // A log is shown at its end, and stays there as it grows, unless its reader went up.
  function logs() { return [...content.querySelectorAll("pre.log")]; }
  function toEnd(log) { log.scrollTop = log.scrollHeight; }
  function isAtEnd(log) { return log.scrollTop + log.clientHeight >= log.scrollHeight - 4; }

  async function refresh() {
    pending = null;
    try {
      const answer = await fetch(content.dataset.fragment, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(String(answer.status));
      const open = window.getSelection().toString();
      if (open === "") {
        const text = await answer.text();
        const places = logs().map(log => isAtEnd(log) ? null : log.scrollTop);
        content.innerHTML = text;
        logs().forEach((log, index) => {
          if (places[index] == null) toEnd(log);
          else log.scrollTop = places[index];
        });
      }
      badge.className = "live on";
      badge.textContent = "live";
    } catch {
      badge.className = "live off";
      badge.textContent = "no answer";
    }
  }

  function soon() {
    if (pending === null) pending = setTimeout(refresh, FASTEST_MS);
  }

  logs().forEach(toEnd);
  const source = new EventSource("/api/v1/events");
  source.onmessage = soon;
  source.onopen = () => { badge.className = "live on"; };
  source.onerror = () => { badge.className = "live off"; badge.textContent = "no answer"; };
  setInterval(() => { if (!document.hidden) refresh(); }, SLOWEST_MS);
})();
