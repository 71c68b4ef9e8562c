"""Clients that people have: the official openai package (sync, async, streams, tools, structured output), curl, and schemathesis over
docs/openapi.json (12 examples for each operation; with
GALEN_API_CASES=N, N and every boundary that the document has, cases being made too)."""
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import openai  # noqa: E402
import pydantic  # noqa: E402
from serving import ROOT, Server, Tally, request  # noqa: E402

T = Tally()
SAY = [{"role": "user", "content": "Say something."}]


class Patient(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=6)
    age: int = pydantic.Field(ge=0, le=99)


TOOL = {"type": "function", "function": {"name": "look_up", "description": "a code of a condition", "parameters": {
    "type": "object", "properties": {"code": {"type": "string", "maxLength": 5}}, "required": ["code"], "additionalProperties": False}}}


def check_sync(client):
    T.check([m.id for m in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").owned_by == "galen", "models")
    a = client.chat.completions.create(model="tiny", messages=SAY, max_tokens=8, seed=1, logprobs=True, top_logprobs=3)
    T.check(a.choices[0].message.role == "assistant" and a.usage.completion_tokens <= 8, "chat")
    T.check(all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in a.choices[0].logprobs.content), "logprobs")
    b = client.chat.completions.create(model="tiny", messages=SAY, max_tokens=8, seed=1)
    T.check(a.choices[0].message.content == b.choices[0].message.content, "the same seed, the same words")
    T.check(b.usage.prompt_tokens_details.cached_tokens > 0, "the second time the prompt is found")
    text, usage, finish = "", None, None
    for chunk in client.chat.completions.create(model="tiny", messages=SAY, max_tokens=8, seed=1, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    T.check(text == a.choices[0].message.content and finish == a.choices[0].finish_reason, "a stream has the same words")
    T.check(usage and usage.completion_tokens == a.usage.completion_tokens, "and the usage at its end")
    c = client.completions.create(model="tiny", prompt="once upon", max_tokens=6, n=3, seed=2, logprobs=2, echo=True)
    T.check(len(c.choices) == 3 and all(k.text.startswith("once upon") for k in c.choices), "completions, three of them")
    T.check(len({k.text for k in c.choices}) > 1, "which differ")
    stream = client.completions.create(model="tiny", prompt="once upon", max_tokens=6, seed=2, stream=True)
    T.check("".join(k.choices[0].text for k in stream) == c.choices[0].text[len("once upon"):], "a stream of completions")
    e = client.embeddings.create(model="tiny", input=["a cat", "a dog"])
    f = client.embeddings.create(model="tiny", input="a cat", encoding_format="float")
    T.check(len(e.data) == 2 and abs(sum(v * v for v in e.data[0].embedding) - 1) < 1e-3, "embeddings have length 1")
    T.check(max(abs(x - y) for x, y in zip(e.data[0].embedding, f.data[0].embedding)) < 1e-6, "base64 and floats agree")
    for what, kind, call in (
            ("a long prompt", openai.BadRequestError, lambda: client.completions.create(model="tiny", prompt=[1] * 50000)),
            ("no such model", openai.NotFoundError, lambda: client.completions.create(model="none", prompt="a")),
            ("a wrong value", openai.BadRequestError, lambda: client.chat.completions.create(model="tiny", messages=SAY, temperature=9))):
        try:
            call()
            T.check(False, f"{what}: no error")
        except kind as error:
            T.check(error.body["message"] and error.code, f"{what}: {error}")


def check_forms(client):
    for seed in range(6):
        a = client.chat.completions.parse(model="tiny", messages=SAY, response_format=Patient, max_tokens=300, seed=seed, temperature=1.5)
        k = a.choices[0]
        T.check(k.finish_reason == "length" or 0 <= k.message.parsed.age <= 99, f"structured output: {k.message.content!r}")
    a = client.chat.completions.create(model="tiny", messages=SAY, response_format={"type": "json_object"}, max_tokens=400, seed=5)
    T.check(a.choices[0].finish_reason == "length" or isinstance(json.loads(a.choices[0].message.content), dict), "json_object")
    n = 0
    for choice in ("required", {"type": "function", "function": {"name": "look_up"}}, "auto", "none"):
        a = client.chat.completions.create(model="tiny", messages=SAY, tools=[TOOL], tool_choice=choice, max_tokens=200, seed=7)
        calls = a.choices[0].message.tool_calls or []
        n += len(calls)
        for call in calls:
            T.check(call.function.name == "look_up" and list(json.loads(call.function.arguments)) == ["code"], f"a call: {call}")
        T.check(bool(calls) == (a.choices[0].finish_reason == "tool_calls") and not (choice == "none" and calls), f"tool_choice {choice}")
    T.check(n >= 2, f"{n} calls")
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(model="tiny", messages=SAY, tools=[TOOL], tool_choice="required", max_tokens=200, seed=7, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            name, arguments = name + (call.function.name or ""), arguments + (call.function.arguments or "")
        finish = chunk.choices[0].finish_reason or finish
    T.check(name == "look_up" and finish == "tool_calls" and list(json.loads(arguments)) == ["code"], f"a streamed call: {name} {arguments} {finish}")
    a = client.chat.completions.create(model="tiny", max_tokens=8, tools=[TOOL], tool_choice="none", messages=[
        *SAY, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{\"code\": \"A\"}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "cholera"}])
    T.check(a.choices[0].finish_reason in ("stop", "length"), "a tool's result goes back")


async def check_async(base):
    async with openai.AsyncOpenAI(base_url=base, api_key="none") as client:
        one = await client.chat.completions.create(model="tiny", messages=SAY, max_tokens=12, seed=3)
        many = await asyncio.gather(*[client.chat.completions.create(model="tiny", messages=SAY, max_tokens=12, seed=3) for _ in range(12)])
        T.check(all(m.choices[0].message.content == one.choices[0].message.content for m in many), "twelve at once say what one says")
        text = ""
        async for chunk in await client.chat.completions.create(model="tiny", messages=SAY, max_tokens=12, seed=3, stream=True):
            text += chunk.choices[0].delta.content or ""
        T.check(text == one.choices[0].message.content, "an async stream")
        stream = await client.chat.completions.create(model="tiny", messages=SAY, max_tokens=500, stream=True)
        async for chunk in stream:
            break
        await stream.close()
        T.check(True, "a stream left")


def check_curl(s):
    curl = shutil.which("curl")
    if not T.check(curl, "curl is there"):
        return
    def run(*args):
        return subprocess.run([curl, "-s", "-S", "--max-time", "30", *args], capture_output=True, text=True)
    p = run(s.base + "/v1/chat/completions", "-H", "Content-Type: application/json", "-d", '{"messages":[{"role":"user","content":"hi"}],"max_tokens":4}')
    T.check(json.loads(p.stdout)["object"] == "chat.completion", f"curl: {p.stdout[:200]} {p.stderr}")
    p = run("-N", s.base + "/v1/completions", "-H", "Content-Type: application/json", "-d", '{"prompt":"hi","max_tokens":4,"stream":true}')
    T.check(p.stdout.endswith("data: [DONE]\n\n"), f"curl -N: {p.stdout[-200:]}")
    p = run("-I", s.base + "/livez")
    T.check(p.stdout.startswith("HTTP/1.1 200"), "HEAD")
    p = run("-o", os.devnull, "-w", "%{http_code}", s.base + "/v1/completions", "-H", "Content-Type: application/json", "-H", "Expect: 100-continue", "-d",
            '{"prompt":"' + "a " * 5000 + '","max_tokens":1}')
    T.check(p.stdout in ("200", "400"), f"100-continue: {p.stdout}")


def check_document(s, key):
    is_full = "GALEN_API_CASES" in os.environ
    n = int(os.environ.get("GALEN_API_CASES", "12"))
    status, headers, body = request(s, "GET", "/openapi.json")
    T.check(status == 200 and json.loads(body) == json.load(open(os.path.join(ROOT, "docs/openapi.json"))), "the document is served")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance," \
             "negative_data_rejection,ignored_auth,unsupported_method"
    p = subprocess.run([os.path.join(os.path.dirname(sys.executable), "st"), "run", s.base + "/openapi.json", "-H", f"Authorization: Bearer {key}",
                        "--url", s.base, "-c", checks, "-n", str(n), "--phases", "coverage,fuzzing" if is_full else "fuzzing", "--seed", "1", "--request-timeout", "60",
                        "--exclude-path-regex", "^$" if is_full else "^/v1/cases(/.id./answers)?$",
                        "--generation-database", "none", "--no-color", "--max-failures", "10"], capture_output=True, text=True, cwd=s.home)
    found = re.search(r"(\d+) generated", p.stdout)
    print(f"    schemathesis: {found.group(1) if found else '?'} cases", flush=True)
    if not T.check(p.returncode == 0 and found, "schemathesis"):
        print(p.stdout[-6000:], p.stderr[-2000:], flush=True)


def main():
    s = Server()
    try:
        base = s.base + "/v1"
        with openai.OpenAI(base_url=base, api_key="none") as client:
            check_sync(client)
            check_forms(client)
        asyncio.run(check_async(base))
        check_curl(s)
        T.check(s.alive(), "the server lives")
    finally:
        T.check(s.close() == 0, "it ends well")
    home = Server()
    home.stop()
    keys = os.path.join(home.home, "keys")
    with open(keys, "w") as f:
        f.write("t admin " + "k" * 24 + "\n")
    s = Server("--api-keys", keys, "--ctx", "128", home=home.home, model=home.model)
    try:
        check_document(s, "k" * 24)
        T.check(s.alive(), "the server lives")
    finally:
        T.check(s.close() == 0, "it ends well")
        home.close()
    return T.end()


if __name__ == "__main__":
    sys.exit(main())
