"""The sampler writes what `generate` writes, whatever the batch; and each row's random numbers are its own."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig
from transformers.models.gemma3 import Gemma3ForCausalLM
from transformers.models.llama import LlamaForCausalLM

from mlpo import MlpoError
from mlpo.models import Loaded
from mlpo.profiles import Sampling
from mlpo.sample import chat, choose, log_likelihood, sample

TEXTS = [
    "Why is snow white?",
    "Kar neden beyazdır?",
    "Name three fruits and say which of them grows on a tree, which on a bush, and which on neither of the two.",
    "Bir renk söyle.",
    "Hi",
    "ठंडे देशों में लोग सर्दी में क्या पहनते हैं, और क्यों?",
    "Why is snow white?",
]


@pytest.fixture(scope="module")
def tiny():
    """Random small models of two architectures; Gemma's has a window of 8 tokens, shorter than most prompts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {char: i + 3 for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytewise = Tokenizer(models.BPE(vocab={"<pad>": 0, "<bos>": 1, "<eos>": 2, **letters}, merges=[]))
    bytewise.pre_tokenizer, bytewise.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytewise, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "head_dim": 16}
    shape |= {"num_key_value_heads": 1, "vocab_size": len(tokenizer), "eos_token_id": 2, "pad_token_id": 0}
    shape |= {"tie_word_embeddings": False}
    layers = ["sliding_attention", "sliding_attention", "full_attention"]
    torch.manual_seed(0)
    gemma = Gemma3ForCausalLM(Gemma3TextConfig(**shape, sliding_window=8, layer_types=layers, initializer_range=0.3))
    llama = LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.3))
    return {"gemma": Loaded("gemma", gemma.eval(), tokenizer, "g"), "llama": Loaded("llama", llama.eval(), tokenizer, "l")}


def stock(loaded: Loaded, text: str, tokens: int) -> list[int]:
    """What `generate` writes after one prompt on its own."""
    ids = loaded.tokenizer(text, return_tensors="pt", add_special_tokens=False)
    out = loaded.model.generate(**ids, max_new_tokens=tokens, do_sample=False)
    return out[0, ids["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("batch", [1, 2, 3, 32])
@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_greedy_tokens_are_those_of_generate_for_every_batch_size(tiny, kind, batch):
    loaded = tiny[kind]
    ours = sample(loaded, TEXTS, Sampling(temperature=0, max_new_tokens=12), [0] * len(TEXTS), batch=batch)
    for text, row in zip(TEXTS, ours, strict=True):
        expected = stock(loaded, text, 12)
        assert row.tokens == expected[: len(row.tokens)]
        assert row.cut == (len(row.tokens) == 12 and row.tokens[-1] != 2)


@pytest.mark.parametrize("batch", [2, 8])
def test_greedy_tokens_of_the_real_model_are_those_of_generate(base, batch):
    prompts = [chat(base.tokenizer, text) for text in TEXTS[:4]]
    ours = sample(base, prompts, Sampling(temperature=0, max_new_tokens=16), [0] * 4, batch=batch)
    assert [row.tokens == stock(base, prompt, 16)[: len(row.tokens)] for prompt, row in zip(prompts, ours, strict=True)] == [
        True
    ] * 4


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_rows_that_leave_and_enter_change_nothing(tiny, kind):
    """Rows stop at random times, so that others enter a running batch; each writes what it writes alone."""
    loaded = tiny[kind]
    stopping = Loaded("s", copy.deepcopy(loaded.model), loaded.tokenizer, "s")
    stopping.model.config.eos_token_id = list(range(0, 259, 7))  # one token in seven ends a row
    texts = [f"{text} {n}" for n in range(4) for text in TEXTS]
    sampling = Sampling(temperature=1, top_p=0.9, max_new_tokens=14)
    together = sample(stopping, texts, sampling, range(len(texts)), batch=5)
    alone = [sample(stopping, [text], sampling, [seed])[0] for seed, text in enumerate(texts)]
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert len({len(row.tokens) for row in together}) > 4


def test_samples_of_one_prompt_differ_and_share_what_was_read(tiny, monkeypatch):
    loaded, seen = tiny["gemma"], []
    forward = loaded.model.forward
    monkeypatch.setattr(loaded.model, "forward", lambda **k: seen.append(tuple(k["input_ids"].shape)) or forward(**k))
    rows = sample(loaded, [TEXTS[2]] * 4, Sampling(temperature=1, max_new_tokens=8), [1, 2, 4, 1])
    assert [shape[0] for shape in seen if shape[1] > 1] == [1]  # read once
    assert rows[0].tokens == rows[3].tokens != rows[1].tokens


def test_a_rows_samples_depend_on_its_seed_and_not_on_its_neighbours(base):
    prompt, other = chat(base.tokenizer, "Name a colour."), chat(base.tokenizer, "Bir renk söyle ve nedenini açıkla.")
    sampling = Sampling(max_new_tokens=8)
    alone = sample(base, [prompt], sampling, [5])[0]
    together = sample(base, [prompt, prompt, other], sampling, [5, 6, 5])
    assert together[0].tokens == alone.tokens
    assert together[1].tokens != alone.tokens


def test_likeliest_and_random_rows_go_in_one_batch(tiny):
    hot = Sampling(temperature=1.5, max_new_tokens=12)
    mixed = sample(tiny["gemma"], TEXTS[:2] * 2, hot, [None, 5, 6, None])
    alone = sample(tiny["gemma"], [TEXTS[1], TEXTS[0]], hot, [5, 6])
    greedy = sample(tiny["gemma"], TEXTS[:2], Sampling(temperature=0, max_new_tokens=12), [0, 0])
    assert [mixed[1], mixed[2]] == alone
    assert [mixed[0], mixed[3]] == greedy


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_a_shared_prefix_gives_the_tokens_of_the_whole_text(tiny, kind):
    loaded = tiny[kind]
    head, tails = (
        "English: the sun and the moon and the stars\nGerman: Sonne\n\nEnglish:",
        [" moon\nGerman:", " a tree\nGerman:"] * 2,
    )
    sampling = Sampling(temperature=0, max_new_tokens=6)
    split = sample(loaded, tails, sampling, [0] * 4, prefix=head, batch=1)
    whole = sample(loaded, [head + tail for tail in tails], sampling, [0] * 4)
    assert [row.tokens for row in split] == [row.tokens for row in whole]


def test_nucleus_sampling_is_exact_also_where_the_first_candidates_do_not_hold_the_mass():
    logits = torch.zeros(1, 5000)  # flat: 512 candidates hold a tenth of the mass
    chosen = {int(choose(logits, Sampling(top_p=0.95), torch.tensor([u]))) for u in torch.linspace(0, 0.999, 200)}
    assert len(chosen) > 190
    peaked = torch.tensor([[3.0, 2.0, 1.0, -9.0]])
    share = peaked.softmax(-1)[0]
    drawn = [int(choose(peaked, Sampling(temperature=1, top_p=0.95), torch.tensor([u]))) for u in torch.linspace(0, 0.9999, 4000)]
    assert drawn.count(0) / 4000 == pytest.approx(float(share[0] / share[:3].sum()), abs=0.01)
    assert 3 not in drawn


def test_an_empty_prompt_is_refused(base):
    with pytest.raises(MlpoError, match="is empty"):
        sample(base, [""], Sampling(max_new_tokens=2), [0])


def test_a_prompt_longer_than_the_context_is_one_sentence(tiny):
    with pytest.raises(MlpoError, match=r"A prompt of 2100 tokens and up to 8 new ones do not fit into the 2048 tokens of 'llama'"):
        sample(tiny["llama"], ["Hi", "x" * 2100], Sampling(max_new_tokens=8), [0, 1])


@pytest.mark.parametrize("kind", ["gemma", "llama"])
def test_log_likelihood_is_the_sum_of_the_texts_own_tokens(tiny, kind):
    loaded = tiny[kind]
    before = [f"{loaded.tokenizer.bos_token}One:", f"{loaded.tokenizer.bos_token}And a longer one: two, three, four:"]
    texts = [" five six", " seven"]
    expected = []
    for head, text in zip(before, texts, strict=True):
        ids = loaded.tokenizer(head + text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        start = len(loaded.tokenizer(head, add_special_tokens=False)["input_ids"])
        logps = loaded.model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        expected.append(float(logps[start - 1 :].sum().detach()))
    assert log_likelihood(loaded, texts, before) == pytest.approx(expected, abs=1e-3)
    shared = log_likelihood(loaded, texts, [":", " is"], prefix="<bos>One")
    whole = log_likelihood(loaded, texts, ["<bos>One:", "<bos>One is"])
    assert shared == pytest.approx(whole, abs=1e-3)
