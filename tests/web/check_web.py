#!/usr/bin/env python3
"""The page in a real Chromium against a real server: the whole flow of a case, history, export, erasure, settings, keyboard, phone
width, accessibility (axe), no other origin, no growth over many turns. GALEN_SHOTS=FOLDER keeps pictures. Prints 'N passed, N failed'."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../support"))
from tally import Tally  # noqa: E402

T = Tally()
check = T.named

GALEN = os.environ["GALEN"]
ROUNDS = int(os.environ.get("GALEN_WEB_ROUNDS", "12"))
SYMPTOMS = "67-year-old man, sudden tearing chest pain between the shoulder blades since one hour, BP 190/110, no fever. <img src=x onerror=alert(1)>"


def serve(folder):
    model = folder + "/tiny.gguf"
    subprocess.run([GALEN, "synth", "--shape", "tiny", "--type", "q8_0", model], check=True, stderr=subprocess.DEVNULL)
    env = {k: v for k, v in os.environ.items() if not k.startswith("GALEN_DB")}
    env.update(HOME=folder, XDG_DATA_HOME=folder + "/data", XDG_CACHE_HOME=folder + "/cache", XDG_RUNTIME_DIR=folder, GALEN_PLUGIN_DIR="/nonexistent")
    log = open(folder + "/serve.log", "w", encoding="utf-8")
    p = subprocess.Popen([GALEN, "serve", model, "--port", "0", "--chat-format", "chatml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    end = time.monotonic() + 120
    while time.monotonic() < end and p.poll() is None:
        found = re.search(r"serving at (http://127\.0\.0\.1:\d+) ", open(folder + "/serve.log", encoding="utf-8").read())
        if found:
            return p, found.group(1)
        time.sleep(0.05)
    raise RuntimeError("the server does not start: " + open(folder + "/serve.log", encoding="utf-8").read())


class Watch:
    """What the browser complains of, and where it goes."""

    def __init__(self, page, base):
        self.bad, self.elsewhere = [], []
        page.on("console", lambda m: self.bad.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: self.bad.append(str(e)))
        page.on("dialog", lambda d: (self.bad.append("dialog: " + d.message), d.dismiss()))
        page.on("request", lambda r: None if r.url.startswith((base, "data:", "blob:")) else self.elsewhere.append(r.url))


def shot(page, name):
    folder = os.environ.get("GALEN_SHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def wait(page, expression, arg=None, timeout=120):
    """Until it holds; polled from here, because the page's policy forbids Playwright's own way (eval inside the page)."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if page.evaluate(expression, arg):
            return
        time.sleep(0.1)
    raise TimeoutError(expression)


def percents(page):
    return [int(re.sub(r"\D", "", t)) for t in page.locator("#conditions .percent").all_inner_texts()]


def idle(page):
    page.wait_for_selector("#cancel", state="hidden", timeout=120000)


def new_case(page, text):
    page.fill("#symptoms", text)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#conditions .percent", timeout=120000)
    idle(page)


def flow(page):
    page.evaluate("""() => { window.early = false; new MutationObserver(() => {
        if (document.querySelector('#conditions li') && !document.querySelector('.banner')) window.early = true;
    }).observe(document.body, {childList: true, subtree: true}); }""")
    page.fill("#symptoms", SYMPTOMS)
    page.click("#submit")
    page.wait_for_selector(".banner", timeout=60000)
    check("the banner is an alert that names the level", "ambulance" in page.locator("#banner").inner_text().lower(), page.locator("#banner").inner_text())
    check("a flag quotes the user's words", "tearing chest" in page.locator("#banner").inner_text())
    page.wait_for_selector("#conditions .percent", timeout=120000)
    idle(page)
    check("no condition was shown before the red flags", page.evaluate("window.early") is False)
    check("five conditions", page.locator("#conditions > li").count() == 5)
    p = percents(page)
    check("confidences fall and make at most 100", p == sorted(p, reverse=True) and sum(p) <= 103, p)
    check("what the number means is said", "calibrated" in page.locator("#meaning").inner_text() and "not the chance" in page.locator("#meaning").inner_text())
    check("a code, or that there is none, for each", all(t.strip() for t in page.locator("#conditions .code").all_inner_texts()))
    check("markup in the symptoms stays text", page.locator("#conditions img, #banner img").count() == 0)
    check("intended use is shown", "does not diagnose" in page.locator(".use").inner_text())
    shot(page, "1-conditions")
    page.wait_for_selector("#question-card p", timeout=60000)
    n_answers = 0
    for kind in ("Yes", "No", "Don't know", "words"):
        if page.locator("#question-text").count() == 0:
            break
        question = page.locator("#question-text").inner_text()
        if kind == "words":
            page.click("#question-card summary")
            page.fill("#answer-text", "yes, it began during heavy lifting")
            page.click("#question-card >> text=Send")
        else:
            page.click(f"#question-card >> text={kind}")
        wait(page, "q => document.getElementById('question-text')?.innerText !== q", question)
        idle(page)
        n_answers += 1
    check("questions were asked and answered", n_answers >= 1, n_answers)
    check("what was asked is listed", page.locator("#asked li").count() == n_answers, page.locator("#asked li").count())
    check("still five conditions", page.locator("#conditions > li").count() == 5 and len(percents(page)) == 5)
    shot(page, "2-answered")
    if page.locator("#close-case").is_visible():
        page.click("#close-case")
        page.wait_for_selector("#question-card >> text=Closed", timeout=30000)


def exports(page, folder):
    for value, begins in (("html", "<!doctype html>"), ("markdown", "# "), ("json", "{"), ("fhir", "{")):
        page.select_option("#export-format", value)
        with page.expect_download(timeout=30000) as d:
            page.click("#export")
        path = folder + "/" + value
        d.value.save_as(path)
        text = open(path, encoding="utf-8").read()
        check("export " + value, text.lower().startswith(begins) and "tearing chest pain" in text, text[:80])
        if value == "fhir":
            check("export fhir is a Bundle", json.loads(text)["resourceType"] == "Bundle")


def past(page, base):
    page.click("#nav-history")
    page.wait_for_selector("#cases li", timeout=30000)
    check("history lists the case", "tearing chest" in page.locator("#cases").inner_text())
    page.fill("#query", "tearing shoulder")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('history-note').innerText.startsWith('1 case')")
    page.fill("#query", "zebrafish")
    page.keyboard.press("Enter")
    wait(page, "document.getElementById('history-note').innerText.includes('No case')")
    check("search finds, and says when it does not", True)
    shot(page, "3-history")
    page.fill("#query", "")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cases li", timeout=30000)
    page.click("#cases li .open")
    page.wait_for_selector("#conditions .percent", timeout=30000)
    check("an old case opens whole", page.locator("#conditions > li").count() == 5 and "tearing" in page.input_value("#symptoms"))
    page.click("#erase")
    page.click("#confirm >> text=Keep")
    check("erasing asks first", page.locator("#conditions > li").count() == 5)
    page.click("#erase")
    page.click("#confirm-yes")
    wait(page, "document.getElementById('symptoms').value === ''")
    page.click("#nav-history")
    wait(page, "document.getElementById('history-note').innerText.includes('No case is kept')")
    check("erased is gone", page.locator("#cases li").count() == 0)


def refusals(page):
    page.click("#nav-case")
    for text in ("12345", "hello"):
        page.fill("#symptoms", text)
        page.click("#submit")
        wait(page, "!document.getElementById('symptoms-error').hidden || document.querySelector('.banner.error')")
        idle(page)
        said = page.locator("#symptoms-error").inner_text() + page.locator("#banner").inner_text()
        check(f"'{text}' is refused with what is missing", len(said) > 20 and page.locator("#conditions > li").count() == 0, said)


def cancelling(page):
    page.fill("#symptoms", SYMPTOMS)
    page.click("#submit")
    page.wait_for_selector("#cancel:visible", timeout=30000)
    page.click("#cancel")
    idle(page)
    check("cancelled: the form can be used again", page.locator("#submit").is_enabled())
    if page.locator("#new-case").is_visible():
        page.click("#new-case")


def looks(page, axe):
    for width, height, theme in ((1100, 900, "light"), (320, 700, "dark")):
        page.set_viewport_size({"width": width, "height": height})
        for view in ("settings", "performance", "history", "case"):
            page.click("#nav-" + view)
            if view == "settings":
                page.select_option("#theme", theme)
            page.wait_for_timeout(150)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            check(f"{view} at {width}: nothing sticks out sideways", over <= 0, over)
            shot(page, f"4-{view}-{width}-{theme}")
            if axe:
                page.evaluate(axe)
                found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa']})")["violations"]
                check(f"axe: {view}, {theme}", not found, [(v["id"], v["nodes"][0]["html"][:120]) for v in found])
    page.set_viewport_size({"width": 1100, "height": 900})


def keyboard(page, base):
    page.goto(base + "/#case")
    page.reload()
    page.focus("body")
    page.keyboard.press("Tab")
    check("the first Tab offers to skip", page.evaluate("document.activeElement.className") == "skip")
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id"))
    check("Tab reaches views, symptoms, submit", {"nav-case", "nav-settings", "symptoms", "submit"} <= reached, reached)
    unnamed = page.evaluate("[...document.querySelectorAll('button, input, select, textarea, a')].filter(e => !(e.labels?.length || e.innerText.trim() || e.ariaLabel || e.querySelector('[alt]'))).map(e => e.outerHTML)")
    check("every control has a name", unnamed == [], unnamed)


def growth(page, base):
    page.goto(base + "/")
    sizes = []
    for i in range(ROUNDS):
        new_case(page, f"cough and fever for {i + 2} days, worse at night, with sputum")
        page.click("#new-case")
        sizes.append(page.evaluate("document.getElementsByTagName('*').length"))
    check("many cases leave no more elements behind", sizes[-1] <= sizes[0] + 2, sizes)
    check("performance keeps what it may", page.evaluate("document.querySelectorAll('#plot-rate path').length") <= 2)


def unasked(page):
    """A server that finds no question worth asking says so where the question would stand."""
    conditions = [{"rank": i + 1, "name": f"Condition {i}", "confidence": 0.1, "code": None, "support": [], "against": [], "missing": []} for i in range(5)]
    said = (("case", {"id": "0" * 48}), ("triage", {"level": "consultation", "flags": [], "asks": []}),
            ("differential", {"conditions": conditions, "other": 0.5, "agreement": 0.0, "disagreement": ["samples"]}), ("closed", {"reason": "no_gain"}))
    page.route("**/v1/cases", lambda r: r.fulfill(content_type="text/event-stream", body="".join(f"event: {e}\ndata: {json.dumps(d)}\n\n" for e, d in said)))
    new_case(page, "cough since monday")
    check("no question: why is shown", page.locator("#questioning").is_visible() and "none is expected" in page.locator("#question-card").inner_text())
    check("a disagreement is said once", page.locator("#signals").inner_text() == "Most repeated tries name another first.", page.locator("#signals").inner_text())
    page.unroute("**/v1/cases")
    page.click("#new-case")


def main():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("no playwright")
        return 1
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    check("a Chromium is installed", chromium)
    try:
        import axe_playwright_python
        axe = open(os.path.join(os.path.dirname(axe_playwright_python.__file__), "axe.min.js"), encoding="utf-8").read()
    except (ImportError, OSError) as e:
        axe = None
        check("axe is there", False, e)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as pw:
        server, base = serve(folder)
        try:
            browser = pw.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1100, "height": 900}, accept_downloads=True)
            page.set_default_timeout(30000)
            watch = Watch(page, base)
            page.goto(base + "/")
            flow(page)
            exports(page, folder)
            past(page, base)
            expected = len(watch.bad)
            check("the console is silent", expected == 0, watch.bad)
            refusals(page)
            watch.bad = [b for b in watch.bad if "status of 4" not in b]  # the browser notes each refused request
            cancelling(page)
            keyboard(page, base)
            looks(page, axe)
            growth(page, base)
            unasked(page)
            check("the console stays silent", not watch.bad, watch.bad)
            check("no other origin is asked", not watch.elsewhere, watch.elsewhere)
            browser.close()
        finally:
            server.terminate()
            check("the server ends in order", server.wait(30) == 0, server.returncode)
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
