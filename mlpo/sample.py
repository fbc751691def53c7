"""The sampler that data, training and evaluation share, and the likelihood of given texts.

A plain loop over the model: the prompt is read once for all its samples, a row's random numbers depend on its own seed alone,
and rows that have finished leave the batch. On a CPU this is faster than `generate`, whose logits processors and multinomial
draws over a large vocabulary cost as much as the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlpo.errors import MlpoError
from mlpo.models import Loaded
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
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def seed_of(item: str) -> int:
    """A row's seed from its item id (64 bits of the hash)."""
    return int(item[:16], 16)


def choose(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> torch.Tensor:
    """Next tokens (rows,) from logits (rows, vocabulary): greedy, or inverse-CDF over the nucleus with `uniform` (rows,).

    Exact: the nucleus is searched among the most likely tokens first, and in the whole vocabulary where they do not hold it.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() / sampling.temperature
    total = logits.logsumexp(-1, keepdim=True)
    for candidates in (min(NUCLEUS_CANDIDATES, logits.shape[-1]), logits.shape[-1]):
        top, index = logits.topk(candidates, dim=-1)
        probability = (top - total).exp()
        before = probability.cumsum(-1) - probability
        if candidates == logits.shape[-1] or bool((before[:, -1] + probability[:, -1] >= sampling.top_p).all()):
            break
    nucleus = torch.where(before < sampling.top_p, probability, 0.0).cumsum(-1)
    drawn = (nucleus <= uniform[:, None] * nucleus[:, -1:]).sum(-1).clamp(max=candidates - 1)
    return index.gather(-1, drawn[:, None]).squeeze(-1)


def _left_pad(rows: Sequence[Sequence[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad, device=device)
    mask = torch.zeros((len(rows), width), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        ids[i, width - len(row) :] = torch.tensor(row, device=device)
        mask[i, width - len(row) :] = 1
    return ids, mask


@torch.inference_mode()
def sample(
    loaded: Loaded,
    prompts: Sequence[str],
    sampling: Sampling,
    seeds: Sequence[int],
    *,
    prefix: str = "",
    stop: str | None = None,
) -> list[Sampled]:
    """One continuation for each prompt (already in the model's format), each drawn with its own seed.

    `prefix`: text in front of every prompt, read once (few-shot examples). `stop`: a character run at which to end besides
    the end of turn. Neighbouring equal prompts are read once and share their cache. Raises MlpoError for an empty prompt.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    device = model.device
    encode = lambda text, special: tokenizer(text, add_special_tokens=special)["input_ids"]
    groups = [0] + [i for i in range(1, len(prompts)) if prompts[i] != prompts[i - 1]]
    rows = [encode(prompts[i], False) for i in groups]
    if not all(rows):
        raise MlpoError("A prompt to sample from is empty: give it text.")
    repeats = torch.tensor(np.diff([*groups, len(prompts)]), device=device)
    ids, mask = _left_pad(rows, tokenizer.pad_token_id, device)
    cache = None
    if prefix:
        head = torch.tensor([encode(prefix, True)], device=device)
        cache = model(input_ids=head, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(rows))
        mask = torch.cat([mask.new_ones(len(rows), head.shape[1]), mask], 1)
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=places[:, -ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache, logits = out.past_key_values, out.logits[:, -1]
    if len(rows) < len(prompts):
        index = torch.arange(len(rows), device=device).repeat_interleave(repeats)
        cache.batch_select_indices(index)
        mask, logits, places = mask[index], logits[index], places[index]
    place = places[:, -1]
    uniforms = torch.tensor(np.stack([np.random.default_rng(s).random(sampling.max_new_tokens, np.float32) for s in seeds]))
    ends = {tokenizer.eos_token_id, *_ids(model.config.eos_token_id)}
    if stop:
        ends |= {row[0] for n in range(1, 9) if len(row := encode(stop * n, False)) == 1}
    tokens: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))
    for step in range(sampling.max_new_tokens):
        chosen = choose(logits, sampling, uniforms[active, step].to(device))
        keep = []
        for position, (row, token) in enumerate(zip(active, chosen.tolist(), strict=True)):
            tokens[row].append(token)
            if token not in ends:
                keep.append(position)
        if not keep or step + 1 == sampling.max_new_tokens:
            break
        if len(keep) < len(active):  # finished rows leave the batch
            active = [active[position] for position in keep]
            index = torch.tensor(keep, device=device)
            cache.batch_select_indices(index)
            chosen, mask, place = chosen[index], mask[index], place[index]
        place = place + 1
        mask = torch.cat([mask, mask.new_ones(len(active), 1)], 1)
        out = model(
            input_ids=chosen[:, None], attention_mask=mask, position_ids=place[:, None], past_key_values=cache, use_cache=True
        )
        cache, logits = out.past_key_values, out.logits[:, -1]
    return [_sampled(tokenizer, row, ends, stop) for row in tokens]


def _ids(value: int | list[int] | None) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _sampled(tokenizer: Any, tokens: list[int], ends: set[int], stop: str | None) -> Sampled:
    cut = tokens[-1] not in ends
    text = tokenizer.decode(tokens if cut else tokens[:-1], skip_special_tokens=True)
    if stop and stop in text:
        text, cut = text.split(stop)[0], False
    return Sampled(tokens, text.strip(), cut)


@torch.inference_mode()
def log_likelihood(loaded: Loaded, texts: Sequence[str], batch: int = 16) -> list[float]:
    """Natural log-probability of each whole text (after the beginning-of-sequence token), in nats; (texts,)."""
    model, tokenizer = loaded.model, loaded.tokenizer
    rows = [tokenizer(text)["input_ids"] for text in texts]
    result = [math.nan] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(rows), batch):
        some = order[start : start + batch]
        width = max(len(rows[i]) for i in some)
        ids = torch.full((len(some), width), tokenizer.pad_token_id)
        for j, i in enumerate(some):
            ids[j, : len(rows[i])] = torch.tensor(rows[i])
        mask = torch.arange(width)[None] < torch.tensor([len(rows[i]) for i in some])[:, None]
        ids, mask = ids.to(model.device), mask.to(model.device)
        logits = model(input_ids=ids, attention_mask=mask.long()).logits[:, :-1].float()
        logps = logits.gather(-1, ids[:, 1:, None]).squeeze(-1) - logits.logsumexp(-1)
        for i, value in zip(some, (logps * mask[:, 1:]).sum(-1).tolist(), strict=True):
            result[i] = value
    return result
