"""The sampler that data, training and evaluation share, and the likelihood of given texts.

A plain loop over the model: a prompt is read once for all its samples, a row's random numbers depend on its own seed alone,
rows that have finished leave the batch and waiting ones take their place. On a CPU
this is faster than `generate`, whose logits processors and multinomial draws
over a large vocabulary cost as much as the model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlpo.errors import MlpoError
from mlpo.models import Lazy, Loaded
from mlpo.profiles import Sampling

NUCLEUS_CANDIDATES = 512  # tokens looked at first; all of the vocabulary only where these do not hold the mass


@dataclass(frozen=True)
class Sampled:
    """`tokens` ends with the stop token unless `cut` (the limit came first)."""

    tokens: list[int]
    text: str
    cut: bool


def chat(tokenizer: Any, prompt: str) -> str:
    """A one-turn conversation in the model's own format, up to where the assistant speaks."""
    messages = [{"role": "user", "content": prompt}]
    # Templates of models that think aloud know the switch; the others ignore it.
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False))


def seed_of(item: str) -> int:
    """A row's seed from its item id (64 bits of the hash)."""
    return int(item[:16], 16)


def log_total(logits: torch.Tensor) -> torch.Tensor:
    """`logits.logsumexp(-1)`, seven times faster on a CPU where many of its terms are too small for a normal float: those, below
    e^-80 of the largest, are rounded up to that, which changes no digit of the result."""
    most = logits.amax(-1, keepdim=True)
    return most.squeeze(-1) + (logits - most).clamp_(min=-80).exp_().sum(-1).log()


def choose(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> torch.Tensor:
    """Next tokens (rows,) from logits (rows, vocabulary): greedy, or inverse-CDF over the nucleus with `uniform` (rows,).

    Exact: the nucleus is searched among the most likely tokens first, and in the whole vocabulary where they do not hold it.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / sampling.temperature
    total = log_total(logits)[:, None]
    for candidates in (min(NUCLEUS_CANDIDATES, logits.shape[-1]), logits.shape[-1]):
        top, index = logits.topk(candidates, dim=-1)
        probability = (top - total).exp()
        before = probability.cumsum(-1) - probability
        if candidates == logits.shape[-1] or bool((before[:, -1] + probability[:, -1] >= sampling.top_p).all()):
            break
    nucleus = torch.where(before < sampling.top_p, probability, 0.0).cumsum(-1)
    drawn = (nucleus <= uniform[:, None] * nucleus[:, -1:]).sum(-1).clamp(max=candidates - 1)
    return index.gather(-1, drawn[:, None]).squeeze(-1)


@dataclass
class _Batch:
    """Rows that are being written together. `mask` (rows, columns) is 1 where a column holds text, `place` (rows,) the position
    of the last token, `logits` (rows, vocabulary) the scores of the next one."""

    rows: list[int]
    cache: Any
    mask: torch.Tensor
    place: torch.Tensor
    logits: torch.Tensor

    def keep(self, positions: list[int]) -> None:
        """Let the other rows leave, and with them the columns that nobody needs any more."""
        index = torch.tensor(positions, device=self.mask.device)
        self.cache.batch_select_indices(index)
        self.rows = [self.rows[i] for i in positions]
        self.mask, self.place, self.logits = self.mask[index], self.place[index], self.logits[index]
        self._set_width(self.mask.shape[1] - int(self.mask.any(0).int().argmax()))

    def join(self, other: _Batch) -> None:
        """Take in rows that have just been read."""
        width = max(self.mask.shape[1], other.mask.shape[1])
        self._set_width(width)
        other._set_width(width)
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            mine.keys, mine.values = torch.cat([mine.keys, theirs.keys]), torch.cat([mine.values, theirs.values])
        self.rows += other.rows
        for name in ("mask", "place", "logits"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))

    def write(self, model: Any, tokens: torch.Tensor) -> None:
        """Put a token (rows,) behind each row, and ask for the scores of the next ones."""
        self.place = self.place + 1
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        out = model(
            input_ids=tokens[:, None],
            attention_mask=self.mask,
            position_ids=self.place[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache, self.logits = out.past_key_values, out.logits[:, -1]

    def _set_width(self, width: int) -> None:
        """Add empty columns on the left, or cut such off; a sliding layer never holds more than its window."""
        if (more := width - self.mask.shape[1]) == 0:
            return
        self.mask = torch.nn.functional.pad(self.mask, (more, 0))
        for layer in self.cache.layers:
            columns = width
            if layer.is_sliding:
                layer.cumulative_length, columns = width, min(width, layer.sliding_window - 1)
            add = columns - layer.keys.shape[-2]
            layer.keys, layer.values = (torch.nn.functional.pad(x, (0, 0, add, 0)) for x in (layer.keys, layer.values))


def _read(loaded: Loaded | Lazy, prompts: list[list[int]], samples: list[list[int]], head: Any, head_length: int) -> _Batch:
    """Read prompts, each once for all its samples. `head` is the cache of a text that stands in front of each of them."""
    model, tokenizer = loaded.model, loaded.tokenizer
    filled = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
    mask, cache = filled["attention_mask"], None
    if head is not None:
        cache = copy.deepcopy(head)
        cache.batch_repeat_interleave(len(prompts))
        mask = torch.cat([mask.new_ones(len(prompts), head_length), mask], 1)
    places = (mask.cumsum(-1) - 1).clamp(min=0)[:, head_length:]
    out = model(
        input_ids=filled["input_ids"],
        attention_mask=mask,
        position_ids=places,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    index = torch.arange(len(prompts)).repeat_interleave(torch.tensor([len(rows) for rows in samples])).to(model.device)
    cache = out.past_key_values
    if len(index) > len(prompts):
        cache.batch_select_indices(index)
    return _Batch([row for rows in samples for row in rows], cache, mask[index], places[index, -1], out.logits[index, -1])


@torch.inference_mode()
def sample(
    loaded: Loaded | Lazy,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int | None],
    *,
    prefix: str = "",
    stop: str | None = None,
    batch: int = 32,
) -> list[Sampled]:
    """One continuation for each prompt (already in the model's format), each drawn with its own seed; None: the likeliest.

    About `batch` rows are written at a time, all samples of one prompt together: prompts of like length are read at once, equal
    ones once for all their samples; finished rows leave, waiting ones take their place. `prefix`: text in front of every prompt,
    read once (few-shot examples). `stop`: a character run at which to end besides the end of turn. Raises MlpoError for an empty
    prompt and for one that does not fit into the model's context.
    """
    if not prompts:
        return []
    by_prompt: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        by_prompt.setdefault(prompt, []).append(row)
    if "" in by_prompt:
        raise MlpoError("A prompt to sample from is empty: give it text.")
    encode = lambda text: loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    waiting = sorted(((encode(prompt), rows) for prompt, rows in by_prompt.items()), key=lambda item: len(item[0]))
    head, head_length = _read_prefix(loaded, prefix)
    _check_room(loaded, len(waiting[-1][0]) + head_length, sampling.max_new_tokens, prompts[waiting[-1][1][0]])
    uniforms = np.stack([np.random.default_rng(s or 0).random(sampling.max_new_tokens, np.float32) for s in seeds])
    greedy = np.array([s is None for s in seeds])
    ends = _ends(loaded, stop)
    tokens: list[list[int]] = [[] for _ in prompts]
    active: _Batch | None = None
    while waiting or active:
        free = batch - len(active.rows if active else [])
        if waiting and free >= max(1, batch // 4):
            fresh = [waiting.pop()]  # the longest; with it as many as there is room for
            while waiting and sum(len(rows) for _, rows in fresh) + len(waiting[-1][1]) <= free:
                fresh.append(waiting.pop())
            read = _read(loaded, [ids for ids, _ in fresh], [rows for _, rows in fresh], head, head_length)
            if active:
                active.join(read)
            else:
                active = read
        assert active is not None
        uniform = torch.from_numpy(uniforms[active.rows, [len(tokens[row]) for row in active.rows]])
        chosen = choose(active.logits, sampling, uniform.to(active.logits.device))
        if greedy[active.rows].any():
            likeliest = torch.from_numpy(greedy[active.rows]).to(chosen.device)
            chosen = torch.where(likeliest, active.logits.argmax(-1), chosen)
        stay = []
        for position, (row, token) in enumerate(zip(active.rows, chosen.tolist(), strict=True)):
            tokens[row].append(token)
            if token not in ends and len(tokens[row]) < sampling.max_new_tokens:
                stay.append(position)
        if not stay:
            active = None
            continue
        if len(stay) < len(active.rows):
            chosen = chosen[torch.tensor(stay, device=chosen.device)]
            active.keep(stay)
        active.write(loaded.model, chosen)
    return [_sampled(loaded.tokenizer, row, ends, stop) for row in tokens]


def _check_room(loaded: Loaded | Lazy, length: int, new: int, longest: str) -> None:
    room = getattr(loaded.model.config, "max_position_embeddings", None)
    if room and length + new > room:
        raise MlpoError(
            f"A prompt of {length} tokens and up to {new} new ones do not fit into the {room} tokens of {loaded.name!r}: "
            f"shorten it, or lower max_new_tokens. It begins with {longest[:60]!r}."
        )


def _ends(loaded: Loaded | Lazy, stop: str | None) -> set[int]:
    """Tokens that end an answer: the model's own, and those that are nothing but `stop` repeated."""
    found = {loaded.tokenizer.eos_token_id}
    for value in (loaded.model.config.eos_token_id, getattr(loaded.model.generation_config, "eos_token_id", None)):
        found |= set(value) if isinstance(value, list) else {value}
    if stop:
        rows = loaded.tokenizer([stop * n for n in range(1, 9)], add_special_tokens=False)["input_ids"]
        found |= {row[0] for row in rows if len(row) == 1}
    return found - {None}


def _sampled(tokenizer: Any, tokens: list[int], ends: set[int], stop: str | None) -> Sampled:
    cut = tokens[-1] not in ends
    text = tokenizer.decode(tokens if cut else tokens[:-1], skip_special_tokens=True)
    if stop and stop in text:
        text, cut = text.split(stop)[0], False
    return Sampled(tokens, text.strip(), cut)


@torch.inference_mode()
def log_likelihood(
    loaded: Loaded | Lazy, texts: Sequence[str], before: Sequence[str] | None = None, *, prefix: str = "", batch: int = 8
) -> list[float]:
    """Natural log-probability of each whole text, in nats; (texts,).

    `before`: what stands in front of each text and is not scored (`chat(...)` for an answer; then end the text with the
    end of turn); without it the beginning-of-sequence token. `prefix`: text in front of everything, read once.
    """
    if not texts:
        return []
    model, tokenizer = loaded.model, loaded.tokenizer
    causal: Any = model
    if hasattr(causal, "get_base_model"):  # under an adapter
        causal = causal.get_base_model()
    heads = list(before) if before is not None else ["" if prefix else tokenizer.bos_token] * len(texts)
    skip = [len(row) for row in tokenizer(heads, add_special_tokens=False)["input_ids"]]
    rows = tokenizer([head + text for head, text in zip(heads, texts, strict=True)], add_special_tokens=False)["input_ids"]
    shared, length = _read_prefix(loaded, prefix)
    result = [math.nan] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(rows), batch):
        some = order[start : start + batch]
        filled = tokenizer.pad({"input_ids": [rows[i] for i in some]}, padding_side="right", return_tensors="pt").to(model.device)
        ids, mask = filled["input_ids"], filled["attention_mask"]
        place = torch.arange(ids.shape[1], device=model.device)
        scored = mask[:, 1:].bool() & (place[None, 1:] >= torch.tensor([skip[i] for i in some], device=model.device)[:, None])
        cache = None
        if shared is not None:
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(some))
            mask = torch.cat([mask.new_ones(len(some), length), mask], 1)
        positions = (place + length).expand(len(some), -1)
        hidden = causal.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=cache is not None
        ).last_hidden_state
        logits = causal.lm_head(hidden[:, :-1][scored]).float()  # the vocabulary's matrix at these positions only
        values = logits.gather(-1, ids[:, 1:][scored][:, None]).squeeze(-1) - log_total(logits)
        sums = torch.zeros(scored.shape, device=model.device).masked_scatter(scored, values).sum(-1)
        for i, value in zip(some, sums.tolist(), strict=True):
            result[i] = value
    return result


def _read_prefix(loaded: Loaded | Lazy, prefix: str) -> tuple[Any, int]:
    """Cache of a text that stands in front of many, and its length in tokens."""
    if not prefix:
        return None, 0
    ids = torch.tensor([loaded.tokenizer(prefix, add_special_tokens=True)["input_ids"]], device=loaded.model.device)
    return loaded.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values, ids.shape[1]
