// One case: symptoms in, red flags at once, five conditions, questions, a new ranking after each answer.
import { events, getBlob, getJson, erase, postJson } from "./api.js";
import { $, announce, bytesOf, confirmErase, download, el, errorText, percent, show } from "./ui.js";
import { settings } from "./settings.js";

const LEVELS = {
  emergency_ambulance: "Call an ambulance now",
  emergency: "Emergency department now",
  consultation_24: "See a clinician within 24 hours",
  consultation: "See a clinician",
  self_care: "Self-care may be enough",
};

let state = null; // {id, symptoms, question, asked: [], open, closed}
let work = null; // AbortController of what runs

export const isBusy = () => work !== null;

/* ------------------------------------------------------------ showing */

function setBusy(text) {
  const busy = text !== null;
  show($("progress"), busy);
  $("progress-text").textContent = text || "";
  $("progress-bar").removeAttribute("value");
  $("submit").disabled = busy;
  show($("cancel"), busy);
  for (const b of $("question-card").querySelectorAll("button, textarea")) b.disabled = busy;
  for (const b of $("tools").querySelectorAll("button")) b.disabled = busy;
}

function showError(e) {
  $("banner").append(el("div", { class: "banner error" }, el("p", {}, errorText(e))));
}

// Red flags replace what stood there; errors are added below them.
function showTriage(t) {
  const isCalm = t.level === "consultation" || t.level === "self_care";
  const box = el("div", { class: "banner " + (isCalm ? "calm" : t.level) },
    el("h2", {}, LEVELS[t.level] || t.level),
    isCalm && !t.flags.length ? el("p", {}, "No red flag was recognised in the text. That does not rule one out.") : null);
  if (t.flags.length) {
    box.append(el("ul", {}, ...t.flags.map((f) => el("li", {}, f.message, " ",
      el("span", { class: "why" }, f.quote ? `“${f.quote}” ` : "", `(${f.source})`)))));
  }
  $("banner").replaceChildren(box);
}

function evidenceList(c) {
  const items = [];
  for (const e of c.support || []) items.push(el("li", {}, "for: ", el("q", {}, e.quote || bytesOf(state.symptoms, e.from, e.to))));
  for (const e of c.against || []) items.push(el("li", {}, "against: ", el("q", {}, e.quote || bytesOf(state.symptoms, e.from, e.to))));
  for (const m of c.missing || []) items.push(el("li", {}, "not known yet: ", m));
  return items.length ? el("ul", { class: "evidence" }, ...items) : null;
}

function changeMark(change) {
  if (change === undefined || Math.abs(change) < 0.005) return null;
  const up = change > 0;
  return el("span", { class: "change " + (up ? "up" : "down") }, `${up ? "▲ +" : "▼ −"}${Math.round(Math.abs(change) * 100)} points`);
}

function conditionItem(c, change) {
  const item = el("li", { "data-name": c.name },
    el("div", { class: "condition-head" },
      el("h3", { class: "condition-name" }, c.name),
      c.code ? el("span", { class: "code", title: c.code_title || "" }, `${c.code} ${c.code_title || ""}`) : el("span", { class: "code" }, "no code found"),
      changeMark(change),
      el("span", { class: "percent" }, percent(c.confidence))),
    el("div", { class: "track", role: "meter", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(c.confidence * 100), "aria-label": `confidence in ${c.name}` },
      el("div", { class: "fill" })),
    evidenceList(c));
  return item;
}

// The list in its new order; items that were there slide from where they stood.
function showConditions(conditions, changes = {}) {
  const list = $("conditions"), before = new Map();
  for (const li of list.children) before.set(li.dataset.name, { top: li.offsetTop, width: li.querySelector(".fill")?.style.width });
  list.replaceChildren(...conditions.map((c) => conditionItem(c, changes[c.name])));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  conditions.forEach((c, i) => {
    const li = list.children[i], fill = li.querySelector(".fill"), was = before.get(c.name);
    fill.style.width = was?.width || "0";
    if (was && was.top !== li.offsetTop && !calm)
      li.animate([{ transform: `translateY(${was.top - li.offsetTop}px)` }, { transform: "none" }], { duration: 600, easing: "ease" });
    requestAnimationFrame(() => { fill.style.width = c.confidence * 100 + "%"; });
  });
  show($("results"));
}

const DISAGREEMENTS = {
  names: "By the likelihood of the names alone another would be first.",
  samples: "Most repeated tries name another first.",
  evidence: "The words of the description speak more for another.",
};

function showDifferential(d, changes) {
  showConditions(d.conditions, changes);
  $("meaning").textContent = "Confidence: " + (d.confidence_meaning || (d.is_calibrated ? "calibrated" : "uncalibrated")) + ". It is not the chance of having the condition.";
  $("other").textContent = d.other !== undefined ? `None of these: ${percent(d.other)}` : "";
  const signals = [];
  const isSplit = (d.disagreement || []).includes("samples"); /* says it in words */
  if (!isSplit && typeof d.agreement === "number" && d.agreement >= 0) signals.push(`${Math.round(d.agreement * 100)} % of repeated tries name the first one.`);
  for (const s of d.disagreement || []) signals.push(DISAGREEMENTS[s] || s);
  $("signals").textContent = signals.join(" ");
}

function showNames(names) {
  $("conditions").replaceChildren(...names.map((n) => el("li", { "data-name": n }, el("h3", { class: "condition-name" }, n), el("p", { class: "hint" }, "being compared…"))));
  show($("results"));
}

function showQuestion(q) {
  state.question = q;
  const text = el("textarea", { id: "answer-text", rows: 2, maxlength: 20000 });
  const send = (kind) => answer(kind, kind === "text" ? text.value.trim() : undefined);
  $("question-card").replaceChildren(
    el("p", { id: "question-text" }, q.text),
    el("p", { class: "hint" }, q.reason === "red_flag" ? "Asked first because a yes would be a red flag." : "Chosen because its answer should separate the conditions best."),
    el("div", { class: "row", role: "group", "aria-labelledby": "question-text" },
      el("button", { type: "button", class: "primary", onclick: () => send("yes") }, "Yes"),
      el("button", { type: "button", class: "primary", onclick: () => send("no") }, "No"),
      el("button", { type: "button", onclick: () => send("unknown") }, "Don't know")),
    el("details", {}, el("summary", {}, "Answer in words"),
      el("label", { for: "answer-text" }, "Your answer"), text,
      el("div", { class: "row" }, el("button", { type: "button", onclick: () => (text.value.trim() ? send("text") : text.focus()) }, "Send"))));
  show($("questioning"));
  announce("Next question: " + q.text);
}

const STOPS = { confident: "No more questions: one condition stands out.", no_gain: "No more questions: none is expected to tell the conditions apart.", count: "No more questions: enough were asked.", user: "Closed." };

function showClosed(reason) {
  state.closed = true;
  state.question = null;
  $("question-card").replaceChildren(el("p", {}, STOPS[reason] || "No more questions."));
  $("title-question").textContent = "Questions";
  show($("questioning")); /* also where none was asked: why not */
  show($("close-case"), false);
  announce(STOPS[reason] || "");
}

function showAnswered(a) {
  const words = { yes: "yes", no: "no", unknown: "not known" };
  const q = state.question || state.asked.at(-1);
  $("asked").append(el("li", {}, q?.text || `question ${a.number}`, " ", el("strong", {}, words[a.kind] || a.text || "")));
  show($("asked-box"));
}

/* ------------------------------------------------------------ what the server says */

function take({ event, data }, run) {
  switch (event) {
    case "case": state.id = data.id; break;
    case "triage": showTriage(data); break;
    case "progress":
      if (data.total) { $("progress-bar").value = data.done / data.total; $("progress-text").textContent = "reading"; }
      break;
    case "condition": run.names[data.index] = data.name; if (!run.isRanked) showNames(run.names.filter(Boolean)); break;
    case "ranking": run.isRanked = true; showDifferential(data, run.changes); break;
    case "change":
      for (const c of data.conditions) run.changes[c.name] = c.change;
      announce("New ranking: " + data.conditions.map((c) => `${c.name} ${percent(c.confidence)}`).join(", "));
      break;
    case "differential":
      run.isRanked = true;
      state.isListed = true;
      showDifferential(data, run.changes);
      if (!Object.keys(run.changes).length) announce("Possible conditions: " + data.conditions.map((c) => `${c.name} ${percent(c.confidence)}`).join(", "));
      $("progress-text").textContent = "choosing a question";
      break;
    case "answer": showAnswered(data); break;
    case "question": showQuestion(data); break;
    case "closed": showClosed(data.reason); break;
    case "error": showError(Object.assign(new Error(data.error?.message || data.message || "The work failed."), { status: 0 })); break;
  }
}

async function follow(path, body, text) {
  const run = { names: [], changes: {}, isRanked: false };
  work = new AbortController();
  setBusy(text);
  try {
    for await (const e of events(path, body, work.signal)) take(e, run);
  } catch (e) {
    if (e.name === "AbortError") announce("Cancelled.");
    else if (e.param === "symptoms" && !state.id) {
      $("symptoms-error").textContent = e.message;
      show($("symptoms-error"));
      $("symptoms").setAttribute("aria-invalid", "true");
      $("symptoms").focus();
    } else showError(e);
  } finally {
    work = null;
    setBusy(null);
    show($("tools"), Boolean(state?.isListed));
    show($("new-case"), Boolean(state?.isListed));
  }
}

/* ------------------------------------------------------------ what the person does */

export function reset() {
  work?.abort();
  state = null;
  for (const id of ["results", "questioning", "tools", "new-case", "asked-box", "symptoms-error"]) show($(id), false);
  for (const id of ["banner", "conditions", "asked", "question-card"]) $(id).replaceChildren();
  for (const id of ["other", "signals", "meaning"]) $(id).textContent = "";
  $("title-question").textContent = "Next question";
  $("title-case").textContent = "New case";
  $("symptoms").value = "";
  $("symptoms").readOnly = false;
  show($("submit"));
  show($("close-case"));
}

async function begin(symptoms) {
  for (const id of ["results", "questioning"]) show($(id), false);
  for (const id of ["banner", "conditions", "asked"]) $(id).replaceChildren();
  show($("symptoms-error"), false);
  $("symptoms").removeAttribute("aria-invalid");
  state = { id: null, symptoms, question: null, asked: [], closed: false, isListed: false };
  const body = { symptoms };
  if (settings.model) body.model = settings.model;
  if (settings.seed !== null) body.seed = settings.seed;
  await follow("/v1/cases", body, "starting");
  if (state?.isListed) { show($("submit"), false); $("symptoms").readOnly = true; $("title-case").textContent = "Case"; }
  else $("symptoms").focus(); // refused, failed or cancelled: the words can be changed and sent again
}

async function answer(kind, text) {
  if (work || !state?.question) return;
  const body = { kind, number: state.question.number };
  if (text !== undefined) body.text = text;
  state.asked.push(state.question);
  await follow(`/v1/cases/${state.id}/answers`, body, "weighing the answer");
  $("question-card").querySelector("button")?.focus();
}

// A case from history: its turns, in order, as if they were told now.
export async function open(id) {
  reset();
  try {
    const c = await getJson(`/v1/cases/${id}`);
    state = { id, symptoms: "", question: null, asked: [], closed: false, isListed: true };
    const run = { names: [], changes: {}, isRanked: true };
    for (const t of c.turns) {
      const content = t.content;
      if (t.kind === "symptoms") { state.symptoms = content.text; $("symptoms").value = content.text; }
      else if (t.kind === "question") { showQuestion(content); state.asked.push(content); }
      else take({ event: t.kind, data: content }, run);
    }
    if (c.state === "closed" && !state.closed) showClosed("user");
    $("symptoms").readOnly = true;
    $("title-case").textContent = "Case";
    show($("submit"), false);
    show($("tools"));
    show($("new-case"));
  } catch (e) { showError(e); }
}

export async function exportCase(id, format) {
  const endings = { html: "html", markdown: "md", json: "json", fhir: "fhir.json", text: "txt" };
  download(await getBlob(`/v1/cases/${id}/export?format=${format}`), `galen-case-${id.slice(0, 8)}.${endings[format]}`);
}

export async function eraseCase(id) {
  if (!(await confirmErase("Erase this case? No trace of it stays in the database, and it cannot be brought back."))) return false;
  await erase(`/v1/cases/${id}`);
  return true;
}

export function start() {
  $("symptoms-form").addEventListener("submit", (e) => {
    e.preventDefault();
    if (!work) begin($("symptoms").value);
  });
  $("symptoms").addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) $("symptoms-form").requestSubmit(); });
  $("cancel").addEventListener("click", () => work?.abort());
  $("new-case").addEventListener("click", () => { reset(); $("symptoms").focus(); });
  $("print").addEventListener("click", () => print());
  $("export").addEventListener("click", () => exportCase(state.id, $("export-format").value).catch(showError));
  $("close-case").addEventListener("click", async () => {
    try { await postJson(`/v1/cases/${state.id}/close`, {}); showClosed("user"); } catch (e) { showError(e); }
  });
  $("erase").addEventListener("click", async () => {
    try { if (await eraseCase(state.id)) { reset(); announce("The case is erased."); $("symptoms").focus(); } } catch (e) { showError(e); }
  });
}
