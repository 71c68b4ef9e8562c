// The status line and the performance view: one look at /v1/status every few seconds while the page is seen, the last ten minutes kept.
import { getJson } from "./api.js";
import { $, el, errorText, gib } from "./ui.js";

const EVERY_MS = 3000, KEPT = 200;
const samples = []; // {t, rate, gpu, kv}

const used = (s) => (s.kv_pages_used ?? 0) * (s.kv_page_tokens ?? 64);
const size = (s) => (s.kv_pages ?? 0) * (s.kv_page_tokens ?? 64);

function line(s) {
  if (!s.loaded) return "no model in memory; the next request loads it";
  const parts = [s.model.name];
  if (s.model.placement) parts.push(s.model.placement);
  parts.push(`context ${used(s)} of ${size(s)}`, `${s.tokens_per_second.toFixed(1)} tokens/s`);
  if (s.waiting) parts.push(`${s.waiting} waiting`);
  if (s.model.fell_back) parts.push(`fell back: ${s.model.fell_back}`);
  return parts.join(" · ");
}

function plot(svg, values) {
  const most = Math.max(...values.filter((v) => v !== null), 0) || 1;
  const path = values.map((v, i) => (v === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${(i / Math.max(values.length - 1, 1)) * 600} ${150 - (v / most) * 140}`)).join("");
  const ns = "http://www.w3.org/2000/svg";
  const grid = document.createElementNS(ns, "path"), curve = document.createElementNS(ns, "path");
  grid.setAttribute("class", "grid");
  grid.setAttribute("d", "M0 150H600M0 80H600M0 10H600");
  curve.setAttribute("class", "curve");
  curve.setAttribute("d", path);
  svg.replaceChildren(grid, curve);
  return most;
}

function figure(name, value) { return el("div", {}, el("dt", {}, name), el("dd", {}, value)); }

function drawPerformance(s) {
  $("cap-rate").textContent = `Tokens per second (top: ${plot($("plot-rate"), samples.map((x) => x.rate)).toFixed(1)})`;
  $("cap-kv").textContent = `Context pages in use, percent (top: ${plot($("plot-kv"), samples.map((x) => x.kv)).toFixed(0)})`;
  const hasGpu = samples.some((x) => x.gpu !== null);
  $("figure-gpu").hidden = !hasGpu;
  if (hasGpu) $("cap-gpu").textContent = `GPU memory, GiB (top: ${plot($("plot-gpu"), samples.map((x) => x.gpu)).toFixed(1)})`;
  const rows = [["Model", s.model?.name], ["Where it runs", s.model?.placement], ["Device", s.model?.device], ["Fell back", s.model?.fell_back],
    ["Tokens per second", s.tokens_per_second.toFixed(1)], ["Running, waiting", `${s.running}, ${s.waiting}`], ["Context", s.loaded ? `${used(s)} of ${size(s)}` : null],
    ["GPU memory", s.gpu?.memory_total ? `${gib(s.gpu.memory_used)} of ${gib(s.gpu.memory_total)}` : null], ["Version", s.version]];
  $("figures").replaceChildren(...rows.filter(([, v]) => v).map(([n, v]) => figure(n, v)));
}

async function look() {
  if (document.hidden) return;
  try {
    const s = await getJson("/v1/status");
    samples.push({ t: Date.now(), rate: s.tokens_per_second, gpu: s.gpu?.memory_used ? s.gpu.memory_used / 2 ** 30 : null, kv: s.kv_pages ? (100 * (s.kv_pages_used ?? 0)) / s.kv_pages : 0 });
    if (samples.length > KEPT) samples.shift();
    $("status-text").textContent = line(s);
    $("status-dot").className = "dot " + (s.model?.fell_back ? "bad" : "ok");
    if (!$("view-performance").hidden) drawPerformance(s);
  } catch (e) {
    $("status-text").textContent = errorText(e);
    $("status-dot").className = "dot bad";
  }
}

export function start() {
  look();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}

export const refresh = look;
