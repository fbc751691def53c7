"""The client against real HTTP on localhost: busy, broken, slow and lying servers, limits, and a real model behind one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlpo import MlpoError
from mlpo.data import complete, translate
from mlpo.profiles import Sampling, ServerLimits
from mlpo.records import Prompt
from mlpo.server import Server
from mlpo.store import Store

GREEDY = Sampling(temperature=0, max_new_tokens=8)


class Fixture(BaseHTTPRequestHandler):
    """Answers with what the test has put into `plan`, one entry a request; then politely."""

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append((time.monotonic(), body, self.headers.get("Authorization")))
            server.inside += 1
            server.most = max(server.most, server.inside)
            step = server.plan.pop(0) if server.plan else "ok"
        try:
            time.sleep(server.pause)
            self.reply(step, body["messages"][0]["content"])
        finally:
            with server.lock:
                server.inside -= 1

    def reply(self, step, prompt):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"echo {prompt}"}}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        answer["usage"] = {"completion_tokens": 3, "prompt_tokens": 1, "total_tokens": 4}
        code = step if isinstance(step, int) else 200
        if step == "hang":
            time.sleep(1.5)
        if step == "empty":
            choice["message"]["content"] = "  "
        if step == "no choices":
            answer["choices"] = []
        if step == "cut":
            choice["finish_reason"] = "length"
        data = json.dumps(answer if code == 200 else {"error": {"message": "no"}}).encode()
        if step == "half":
            data = data[: len(data) // 2]
        try:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has given up on us: that is the test

    def log_message(self, *_):
        pass


@contextmanager
def serving(plan=(), pause=0.0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fixture)
    server.plan, server.pause, server.seen, server.lock = list(plan), pause, [], threading.Lock()
    server.inside = server.most = 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"m@http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("step", [429, 500, 503, "hang", "half", "empty", "no choices"])
def test_what_is_no_answer_is_asked_again(step):
    with serving([step, step]) as (server, name):
        client = Server(name, ServerLimits(timeout_s=0.5), pause_s=0.01)
        assert client.chat(["hi"], GREEDY, [1])[0].text == "echo hi"
        assert len(server.seen) == 3


@pytest.mark.parametrize(("step", "asked"), [("empty", 3), (400, 1), (422, 1)])
def test_a_prompt_that_gets_no_answer_is_an_empty_one_and_the_others_are_kept(step, asked):
    with serving([step] * asked) as (server, name):
        rows = Server(name, ServerLimits(tries=3, concurrency=1), pause_s=0.01).chat(["a", "b"], GREEDY, [1, 2])
        assert [row.text for row in rows] == ["", "echo b"]
        assert len(server.seen) == asked + 1


def test_what_a_model_thinks_aloud_is_no_answer(monkeypatch):
    with serving() as (_, name):
        client = Server(name, ServerLimits(tries=2), pause_s=0.01)
        assert client.chat(["<think>hm</think> x"], GREEDY, [1])[0].text == "echo  x"
        assert client.chat(["<think>cut while thinking"], GREEDY, [1])[0].text == "echo"


@pytest.mark.parametrize("step", [500, "half"])
def test_a_server_that_never_answers_is_one_sentence(step):
    with serving([step] * 50) as (server, name):
        with pytest.raises(MlpoError, match=r"gave no answer .* run again; what is stored is kept"):
            Server(name, ServerLimits(tries=3), pause_s=0.01).chat(["hi"], GREEDY, [1])
        assert len(server.seen) == 3


def test_a_wrong_key_or_model_is_not_tried_again():
    with serving([401] * 9) as (server, name):
        with pytest.raises(MlpoError, match="AuthenticationError"):
            Server(name, pause_s=0.01).chat(["hi"], GREEDY, [1])
        assert len(server.seen) == 1


def test_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        name = f"m@http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(MlpoError, match="see that it runs and serves 'm'"):
        Server(name, ServerLimits(tries=2), pause_s=0.01).chat(["hi"], GREEDY, [1])


@pytest.mark.parametrize("name", ["m", "m@localhost:8000", "@http://x/v1"])
def test_a_name_that_is_no_server(name):
    with pytest.raises(MlpoError, match="write MODEL@URL"):
        Server(name)


def test_order_cut_seed_and_settings_arrive():
    with serving(["cut"]) as (server, name):
        rows = Server(name, ServerLimits(concurrency=1)).chat(
            ["a", "b", "c"], Sampling(temperature=0.3, max_new_tokens=5), [7, 8, 9]
        )
        assert [row.text for row in rows] == ["echo a", "echo b", "echo c"]
        assert [row.cut for row in rows] == [True, False, False]
        assert rows[0].tokens == 3
        sent = [body for _, body, _ in server.seen]
        assert [body["seed"] for body in sent] == [7, 8, 9]
        assert (sent[0]["temperature"], sent[0]["top_p"], sent[0]["max_tokens"]) == (0.3, 0.95, 5)


def test_requests_run_side_by_side_up_to_the_limit():
    with serving(pause=0.15) as (server, name):
        Server(name, ServerLimits(concurrency=3)).chat(list("abcdefghi"), GREEDY, range(9))
        assert server.most == 3


def test_a_rate_limit_is_kept():
    with serving() as (server, name):
        Server(name, ServerLimits(requests_per_minute=600)).chat(list("abcde"), GREEDY, range(5))
        times = sorted(at for at, _, _ in server.seen)
        assert times[-1] - times[0] >= 0.35  # four pauses of a tenth of a second


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving() as (server, name):
        client = Server(name)
        store = Store(tmp_path / "s.sqlite")
        asked = [Prompt("p", "en", "pool", "open", "", "hi")]
        rows = complete.run(store, complete.ServedGenerator(client), asked, GREEDY, role="policy")
        assert rows[0].text == "echo hi"
        assert server.seen[0][2] == "Bearer sk-secret"
        again = complete.run(store, complete.ServedGenerator(client), asked, GREEDY, role="policy")
        assert again == rows
        assert len(server.seen) == 1  # the store had it
    store.close()
    assert b"sk-secret" not in (tmp_path / "s.sqlite").read_bytes()
    assert "sk-secret" not in repr(client)


def test_a_served_translator_retries_what_fails_its_checks(tmp_path):
    with serving() as (server, name):
        translator = translate.ServedTranslator(Server(name, pause_s=0.01))
        wanted = [("Why is the sky blue at noon and red at dusk?", "en", "de")]
        done = translate.run(Store(tmp_path / "s.sqlite"), translator, wanted, 8)
        assert done[0].rejected  # an echo of the English is no German
        assert len(server.seen) == translate.TRIES
        assert server.seen[1][1]["temperature"] > 0 == server.seen[0][1]["temperature"]


def test_transformers_serve_with_the_packaged_model(base, tmp_path):
    """Both ends real: `transformers serve` answers for `base`, and the client translates and completes with it."""
    from mlpo.models import local_folder

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = str(local_folder("base"))
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        limits = ServerLimits(concurrency=1, timeout_s=120, tries=12)
        client = Server(f"{folder}@http://127.0.0.1:{port}/v1", limits)
        asked = [Prompt("p", "en", "pool", "open", "", "Why is the sky blue?")]
        rows = complete.run(Store(tmp_path / "s.sqlite"), complete.ServedGenerator(client), asked, GREEDY, role="policy")
        local = complete.LocalGenerator(base).generate([asked[0].text], GREEDY, [0])
        assert rows[0].text == local[0].text
    finally:
        process.kill()
        process.wait()
