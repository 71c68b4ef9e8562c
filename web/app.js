// Views by the address's fragment: #case, #case/ID, #history, #performance, #settings.
import * as cases from "./case.js";
import * as history from "./history.js";
import * as settings from "./settings.js";
import * as status from "./status.js";
import { $, show } from "./ui.js";

const VIEWS = ["case", "history", "performance", "settings"];

function route(isFirst) {
  const [name, id] = (location.hash.slice(1) || "case").split("/");
  const view = VIEWS.includes(name) ? name : "case";
  for (const v of VIEWS) {
    show($("view-" + v), v === view);
    if (v === view) $("nav-" + v).setAttribute("aria-current", "page");
    else $("nav-" + v).removeAttribute("aria-current");
  }
  document.title = `${$("title-" + view).textContent} – Galen`;
  if (view === "case" && id && /^[0-9a-f]{8,64}$/.test(id)) { cases.open(id); window.history.replaceState(null, "", "#case"); }
  if (view === "history") history.refresh();
  if (view === "performance") status.refresh();
  if (view === "settings") settings.fillModels();
  if (!isFirst) $("main").focus();
}

settings.start(() => { status.refresh(); settings.fillModels(); });
cases.start();
history.start();
status.start();
window.addEventListener("hashchange", () => route(false));
window.addEventListener("beforeunload", (e) => { if (cases.isBusy()) e.preventDefault(); });
route(true);
if (location.hash === "") $("symptoms").focus();
