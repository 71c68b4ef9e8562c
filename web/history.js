// Cases kept by this server: list, search, open, export, erase.
import { getJson, postJson } from "./api.js";
import { eraseCase, exportCase } from "./case.js";
import { $, el, errorText, show } from "./ui.js";

let next = null, query = "";

function row(c) {
  const title = c.title || "(no symptoms)";
  const item = el("li", { class: "card" },
    el("button", { type: "button", class: "open", onclick: () => { location.hash = "#case/" + c.id; } }, title),
    el("span", { class: "hint" }, new Date(c.changed_ms).toLocaleString()),
    el("button", { type: "button", "aria-label": "Export: " + title, onclick: () => exportCase(c.id, "html").catch(note) }, "Export"),
    el("button", { type: "button", class: "danger", "aria-label": "Erase: " + title, onclick: async () => {
      try { if (await eraseCase(c.id)) { item.remove(); $("history-note").textContent = "The case is erased."; } } catch (e) { note(e); }
    } }, "Erase"));
  return item;
}

const note = (e) => { $("history-note").textContent = errorText(e); };

async function load(isMore) {
  try {
    const page = query ? await postJson("/v1/cases/search", isMore && next ? { query, before: next } : { query })
                       : await getJson("/v1/cases?limit=50" + (isMore && next ? "&before=" + encodeURIComponent(next) : ""));
    if (!isMore) $("cases").replaceChildren();
    $("cases").append(...page.data.map(row));
    next = page.next ?? null;
    show($("more"), next !== null);
    const n = $("cases").children.length;
    $("history-note").textContent = n ? `${n} case${n === 1 ? "" : "s"}${next ? ", and older ones" : ""}` : query ? "No case has these words." : "No case is kept yet.";
  } catch (e) { note(e); }
}

export const refresh = () => load(false);

export function start() {
  $("search-form").addEventListener("submit", (e) => { e.preventDefault(); query = $("query").value.trim(); load(false); });
  $("query").addEventListener("search", () => { if (!$("query").value) { query = ""; load(false); } });
  $("more").addEventListener("click", () => load(true));
}
