// Acting: a question that says what will happen, then a POST with the proof that no foreign page can know.
"use strict";
(() => {
  const dialog = document.getElementById("ask");
  const said = document.getElementById("said");
  if (!dialog) return;

  const text = (name, label, more = {}) => ({ name, label, ...more });
  const REASON = text("reason", "Reason", { placeholder: "for those who read the story" });
  const FORCE = text("force", "All the same: its jobs are queued again", { kind: "checkbox" });
  const FOR = text("for", "For", { placeholder: "such as 2h; empty: until released" });
  const many = (act, at) => ["/api/v1/jobs/act", { act, ...(at.ids ? at : { ids: [Number(at)] }) }];
  const power = act => ({
    button: "Do it", fields: also => (also.objection ? [FORCE] : []),
    send: (at, form) => [`/api/v1/nodes/${encodeURIComponent(at)}/power`, { act, force: form.force === true }],
  });

  // Of each act: the word on the button, its fields, and what is sent where.
  const ACTS = {
    cancel: { button: "Cancel it", fields: also => [REASON, ...(also.results ? [text("results", "Bring back what it has written", { kind: "checkbox", value: true })] : [])],
      send: (at, form) => { const [to, body] = many("cancel", at); return [to, { ...body, reason: form.reason, results: form.results !== false }]; } },
    hold: { button: "Hold", fields: () => [REASON], send: (at, form) => { const [to, body] = many("hold", at); return [to, { ...body, reason: form.reason }]; } },
    release: { button: "Release", fields: () => [], send: at => many("release", at) },
    priority: { button: "Set", fields: also => [text("priority", "Priority, -1000 to 1000", { kind: "number", value: also.priority ?? 0, min: -1000, max: 1000 })],
      send: (at, form) => { const [to, body] = many("priority", at); return [to, { ...body, priority: Number(form.priority) }]; } },
    retry: { button: "Run again", fields: also => (also.is_array || also.cpus === undefined ? [] : [
        text("cpus", "CPUs", { value: also.cpus }), text("ram", "RAM", { value: also.ram }), text("gpus", "GPUs", { value: also.gpus || "0" }),
        text("time_limit", "Time limit", { value: also.time_limit, placeholder: "none" })]),
      send: (at, form, also) => {
        const changed = Object.fromEntries(["cpus", "ram", "gpus", "time_limit"].filter(key => key in form && form[key].trim() !== String(also[key] || (key === "gpus" ? "0" : ""))).map(key => [key, form[key].trim()]));
        return Object.keys(changed).length ? [`/api/v1/jobs/${at}/resubmit`, changed] : many("retry", at);
      } },
    drain: { button: "Drain", fields: () => [REASON, text("deadline", "Its jobs are queued again after", { placeholder: "such as 2h, 0 for now; empty: never" }), text("then_off", "Then switch it off", { kind: "checkbox" })],
      send: (at, form) => {
        const seconds = form.deadline.trim() === "" ? null : parse(form.deadline);
        return [`/api/v1/nodes/${encodeURIComponent(at)}/drain`, { reason: form.reason, ...(seconds === 0 ? { now: true } : { deadline_s: seconds }), then_off: form.then_off === true }];
      } },
    resume: { button: "Resume", fields: () => [], send: at => [`/api/v1/nodes/${encodeURIComponent(at)}/resume`, {}] },
    "power-on": power("on"), "power-off": power("off"), "power-cycle": power("cycle"),
    "power-hold": { button: "Hold", fields: () => [FOR, REASON], send: (at, form) => [`/api/v1/nodes/${encodeURIComponent(at)}/power`, { act: "hold", for_s: form.for.trim() ? parse(form.for) : null, reason: form.reason }] },
    "power-release": { button: "Release", fields: () => [], send: at => [`/api/v1/nodes/${encodeURIComponent(at)}/power`, { act: "release" }] },
    scale: { button: "Do it", fields: () => [text("nodes", "Servers on", { kind: "number", min: 0, max: 9999, placeholder: "empty: as many as the queue needs" }), FOR],
      send: (_at, form) => ["/api/v1/scale", { nodes: form.nodes === "" ? null : Number(form.nodes), for_s: form.for.trim() ? parse(form.for) : null }] },
    logout: { button: "Sign out", fields: () => [], send: () => ["/api/v1/web/logout", {}] },
  };

  function parse(words) {
    const units = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
    const found = words.trim().toLowerCase();
    if (!/^(\d+(\.\d+)?\s*[smhdw]\s*)+$/.test(found) && found !== "0") throw new Error(`${words} is not a time; write 45s, 30m, 2h or 1d`);
    return [...found.matchAll(/(\d+(?:\.\d+)?)\s*([smhdw])/g)].reduce((sum, one) => sum + Number(one[1]) * units[one[2]], 0);
  }

  function make(tag, attributes, ...inside) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
    made.append(...inside);
    return made;
  }

  function field(one) {
    const isBox = one.kind === "checkbox", id = `ask-${one.name}`;
    const input = make("input", { id, name: one.name, type: one.kind || "text", placeholder: one.placeholder, min: one.min, max: one.max, autocomplete: "off" });
    if (isBox) input.checked = one.value === true;
    else input.value = one.value ?? "";
    const label = make("label", { for: id }, one.label);
    return isBox ? make("p", { class: "field box" }, input, label) : make("p", { class: "field" }, label, input);
  }

  function values(form) {
    return Object.fromEntries([...form.querySelectorAll("input")].map(one => [one.name, one.type === "checkbox" ? one.checked : one.value]));
  }

  async function post(path, body) {
    const session = await (await fetch("/api/v1/web/session")).json();
    if (!session.proof) throw new Error("You are not signed in any more. Run `racksack web login` for another link.");
    const answer = await fetch(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "Racksack-Proof": session.proof } });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  }

  function outcome(act, found) {
    if (act === "logout") return "You are signed out.";
    if (found.of !== undefined) return `Submitted as job ${found.id}.`;
    if (found.done === undefined) return "Done.";
    const why = found.why.map(one => one.sentence).slice(0, 3).join("; ");
    const jobs = found.done === 1 ? "1 job" : `${found.done} jobs`;
    return found.refused ? `Done for ${jobs}; not for ${found.refused}: ${why}` : `Done${found.done > 1 ? ` for ${jobs}` : ""}.`;
  }

  function tell(sentence, isBad) {
    said.textContent = sentence;
    said.className = isBad ? "said bad" : "said";
    said.hidden = false;
    clearTimeout(tell.timer);
    tell.timer = setTimeout(() => { said.hidden = true; }, isBad ? 20000 : 8000);
  }

  function ask(act, title, says, at, also) {
    const what = ACTS[act], form = dialog.querySelector("form"), problem = dialog.querySelector(".bad");
    dialog.querySelector("h2").textContent = title;
    dialog.querySelector(".says").textContent = says;
    dialog.querySelector(".fields").replaceChildren(...what.fields(also).map(field));
    problem.hidden = !also.objection;
    problem.textContent = also.objection || "";
    const go = dialog.querySelector("button.go");
    go.textContent = what.button;
    form.onsubmit = async event => {
      event.preventDefault();
      go.disabled = true;
      try {
        const found = await post(...what.send(at, values(form), also));
        dialog.close();
        tell(outcome(act, found), found.refused > 0);
        if (act === "logout") location.reload();
        document.dispatchEvent(new Event("racksack:acted"));
        racksack.refresh();
      } catch (error) {
        problem.hidden = false;
        problem.textContent = error.message;
      } finally {
        go.disabled = false;
      }
    };
    dialog.showModal();
  }

  // Rows that are picked in a table of jobs.

  const picks = () => [...document.querySelectorAll("input.pick")];
  function count() {
    const picked = picks().filter(one => one.checked);
    for (const bar of document.querySelectorAll(".picked")) {
      bar.querySelector("output").textContent = picked.length ? `${picked.length} selected` : "";
      for (const button of bar.querySelectorAll("button[data-picked]")) button.disabled = !picked.length;
    }
    const all = document.querySelector("input.pick-all");
    if (all) { all.checked = picked.length > 0 && picked.length === picks().length; all.indeterminate = picked.length > 0 && !all.checked; }
  }

  function askPicked(button) {
    const picked = picks().filter(one => one.checked);
    const of = key => picked.filter(one => one.dataset[key]).map(one => Number(one.dataset[key]));
    const at = { ids: of("job"), arrays: of("array") };
    const jobs = picked.reduce((sum, one) => sum + Number(one.dataset.jobs || 1), 0);
    const names = picked.slice(0, 5).map(one => one.dataset.name).join(", ") + (picked.length > 5 ? ", ..." : "");
    const act = button.dataset.picked;
    ask(act, button.textContent, button.dataset.says.replace("{jobs}", jobs === 1 ? "1 job" : `${jobs} jobs`) + ` (${names})`, at, {});
  }

  document.addEventListener("click", event => {
    const button = event.target.closest?.("button[data-act], button[data-picked]");
    if (!button) return;
    if (button.dataset.picked) askPicked(button);
    else ask(button.dataset.act, button.textContent, button.dataset.says, button.dataset.atPath, JSON.parse(button.dataset.also || "{}"));
  });
  document.addEventListener("change", event => {
    if (event.target.matches?.("input.pick-all")) for (const one of picks()) one.checked = event.target.checked;
    if (event.target.matches?.("input.pick, input.pick-all")) count();
  });
  document.addEventListener("racksack:changed", count);
  document.addEventListener("racksack:acted", () => { for (const one of picks()) one.checked = false; count(); });
  dialog.querySelector("button.leave").addEventListener("click", () => dialog.close());
  count();
})();
