// Choices of this browser. The key lives in this tab alone.
import { getJson, getKey, setKey } from "./api.js";
import { $, el } from "./ui.js";

export const settings = { theme: "auto", model: "", seed: null };

function keep() { localStorage.setItem("galen-settings", JSON.stringify(settings)); }

function applyTheme() {
  const isDark = settings.theme === "dark" || (settings.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

export async function fillModels() {
  try {
    const models = (await getJson("/v1/models")).data;
    $("model").replaceChildren(el("option", { value: "" }, "The server's own"), ...models.map((m) => el("option", { value: m.id }, m.id)));
    $("model").value = models.some((m) => m.id === settings.model) ? settings.model : "";
  } catch { /* without a key the list stays as it is */ }
}

export function start(onKey) {
  try { Object.assign(settings, JSON.parse(localStorage.getItem("galen-settings") || "{}")); } catch { /* damaged: the defaults */ }
  applyTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
  $("theme").value = settings.theme;
  $("seed").value = settings.seed ?? "";
  $("key").value = getKey();
  $("theme").addEventListener("change", () => { settings.theme = $("theme").value; applyTheme(); keep(); });
  $("model").addEventListener("change", () => { settings.model = $("model").value; keep(); });
  $("seed").addEventListener("change", () => { settings.seed = $("seed").value === "" || !$("seed").checkValidity() ? null : Number($("seed").value); keep(); });
  $("key").addEventListener("change", () => { setKey($("key").value.trim()); onKey(); });
  $("settings-form").addEventListener("submit", (e) => e.preventDefault());
}
