"""Reward models: which pairs they learn from, where they come from, and whether they can be believed."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlpo import MlpoError, rewards
from mlpo.corruptions import corrupt
from mlpo.data import score
from mlpo.data.prompts import seed_prompts
from mlpo.models import Lazy, ready
from mlpo.profiles import ServerLimits
from mlpo.records import Completion
from mlpo.server import Server
from mlpo.store import Store
from mlpo.train import reward

RM = [p for lang in ("en", "tr") for p in seed_prompts("rm", lang)[:4]]


def test_a_reference_is_set_against_bases_answer_and_a_fault():
    own = [Completion("1", p.id, p.lang, "policy", "Hm.") for p in RM[:6]]
    pairs = reward.known_pairs(RM, own, ["truncation", "copied prompt"])
    drawn = reward.draw(pairs)
    by_reference = {(p.id, p.lang): [d.kind for d in drawn if (d.prompt_id, d.lang) == (p.id, p.lang)] for p in RM}
    assert all(len(kinds) == 2 for kinds in by_reference.values())
    assert [kinds[0] == "base's answer" for kinds in by_reference.values()] == [True] * 6 + [False] * 2
    assert drawn == reward.draw(pairs)


def test_over_fitting_is_said_where_the_gap_is_beyond_its_interval():
    ids = [str(i % 20) for i in range(200)]
    good = [1.0] * 196 + [0.0] * 4
    assert reward.overfitted(good, good, ids) == ""
    assert reward.overfitted(good, [1.0] * 8 + [0.0] * 2, ids[:10]) == ""  # a few pairs prove nothing
    bad = [float(i % 10 < 7) for i in range(200)]
    assert reward.overfitted([1.0] * 200, bad, ids).startswith("Over-fitted: right on 1.000 of the training pairs, but on 0.7")


def test_the_recorded_model_ranks_references_above_faults_and_its_identity_needs_no_loading(tmp_path):
    model = rewards.recorded()
    assert isinstance(model.loaded, Lazy)
    assert "loaded" not in model.loaded.__dict__
    dev = [p for lang in ("en", "tr", "zh") for p in seed_prompts("dev", lang)[:2]]
    by_key = {(p.id, p.lang): p for p in dev}
    worse = [corrupt(p, "other reference", by_key) for p in dev]
    store = Store(tmp_path / "s.sqlite")
    scores = score.run(store, model, [*dev, *dev], [*(p.reference for p in dev), *worse])
    right = [better > bad for better, bad in zip(scores[:6], scores[6:], strict=True)]
    assert sum(right) >= 5
    del model.loaded.__dict__["loaded"]
    assert score.run(store, model, dev, worse) == scores[6:]
    assert "loaded" not in model.loaded.__dict__  # all of it was stored


def test_a_classifier_from_a_folder_is_a_reward_model(tmp_path):
    """A hub reward model is loaded by the same call; here a tiny one of the class of Skywork-Reward-V2."""
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForSequenceClassification

    from mlpo.models import local_folder

    tokenizer = AutoTokenizer.from_pretrained(local_folder("smollm2"))
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 8}
    config = Qwen3Config(
        vocab_size=len(tokenizer), num_key_value_heads=1, num_labels=1, pad_token_id=tokenizer.pad_token_id, **sizes
    )
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    model = rewards.RewardModel(ready(str(tmp_path / "tiny"), reward=True))
    alone = [model.score_texts(["Why?"], [text])[0] for text in ("Because.", "It is so, and long ago it was not.")]
    assert model.score_texts(["Why?"] * 2, ["Because.", "It is so, and long ago it was not."]) == pytest.approx(alone, abs=1e-5)


class Classifier(BaseHTTPRequestHandler):
    """The reward is the length of the last message; the first `failing` requests are refused as too many."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.seen.append((self.path, body))
            busy = len(self.server.seen) <= self.server.failing
        reply = {"data": [{"index": 0, "probs": [float(len(body["messages"][-1]["content"]))]}]}
        data = json.dumps({"error": "busy"} if busy else reply).encode()
        self.send_response(429 if busy else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def classifying(failing=0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Classifier)
    server.seen, server.lock, server.failing = [], threading.Lock(), failing
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server, f"judge-me@http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_served_reward_model_scores_in_order_through_a_busy_server(tmp_path):
    with classifying(failing=2) as (server, name):
        served = rewards.ServedReward(Server(name, pause_s=0.01))
        store = Store(tmp_path / "s.sqlite")
        texts = ["x" * i for i in range(1, 9)]
        assert score.run(store, served, RM, texts) == [float(i) for i in range(1, 9)]
        assert len(server.seen) == 8 + 2
        path, body = server.seen[0]
        assert (path, body["model"]) == ("/classify", "judge-me")
        assert score.run(store, served, RM, texts)[0] == 1.0
        assert len(server.seen) == 10  # stored


def test_a_served_reward_model_that_does_not_work_is_one_sentence():
    with classifying(failing=99) as (_, name):
        served = rewards.ServedReward(Server(name, ServerLimits(tries=2), pause_s=0.01))
        with pytest.raises(MlpoError, match=r"gave no answer .* run again"):
            served.score(RM[:1], ["x"])
