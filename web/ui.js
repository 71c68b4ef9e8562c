// Small helpers of the page. Text is always set as text: nothing a model or a person wrote is parsed as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

export function show(node, isShown = true) { node.hidden = !isShown; }

// Read out by a screen reader, at once but politely.
export function announce(text) { $("announce").textContent = text; }

export const percent = (p) => (p * 100 < 1 ? "<1 %" : Math.round(p * 100) + " %");
export const gib = (bytes) => (bytes / 2 ** 30).toFixed(bytes < 10 * 2 ** 30 ? 1 : 0) + " GiB";

// bytes [from, to) of text in UTF-8, as the server counts
export function bytesOf(text, from, to) {
  return new TextDecoder().decode(new TextEncoder().encode(text).slice(from, to));
}

export function confirmErase(text) {
  const dialog = $("confirm");
  $("confirm-text").textContent = text;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob), a = el("a", { href: url, download: name });
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export const errorText = (e) => {
  if (e.status === 401) return "This server asks for a key: enter it under Settings.";
  if (e.status === 429 || e.status === 503) return `${e.message} Try again${e.retryAfter ? ` in ${e.retryAfter} s` : " soon"}.`;
  return e.message;
};
