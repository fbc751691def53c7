"""A client for any OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, or a paid API.

Requests run side by side up to a limit, keep to a rate, and are tried again with growing pauses when a server is busy, fails,
hangs, or sends something that is no answer. The key comes from the environment and is never stored or shown.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import openai
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tqdm.auto import tqdm

from mlpo.errors import MlpoError
from mlpo.models import digest
from mlpo.profiles import Sampling
from mlpo.records import Answer

AGAIN = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.APIResponseValidationError)


class _NoAnswer(Exception):
    """A reply without text, or one that is not the JSON it should be."""


@dataclass
class Server:
    """`name` is MODEL@URL, e.g. "Qwen/Qwen3-8B@http://localhost:8000/v1". `pause_s`: first wait before another try."""

    name: str
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_s: float = 120
    tries: int = 6
    pause_s: float = 1.0
    _next: float = field(default=0.0, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.model, _, self.url = self.name.partition("@")
        if not self.model or not self.url.startswith(("http://", "https://")):
            raise MlpoError(f"{self.name!r} is not a server: write MODEL@URL, e.g. my-model@http://localhost:8000/v1.")
        key = os.environ.get("OPENAI_API_KEY", "none")  # a local server asks for none
        self._client = openai.OpenAI(base_url=self.url, api_key=key, timeout=self.timeout_s, max_retries=0)

    @property
    def fingerprint(self) -> str:
        """Of the model's name: which weights a server holds cannot be seen from outside."""
        return digest({"server": self.model})

    def chat(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Answers to one-turn conversations, in order."""

        def ask(prompt: str, seed: int) -> Any:
            return self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=seed,
            )

        return self._all(lambda prompt, seed: _answer(ask(prompt, seed)), prompts, seeds)

    def _all(self, ask: Callable[[str, int], Answer], prompts: Sequence[str], seeds: Sequence[int]) -> list[Answer]:
        again = Retrying(
            retry=retry_if_exception_type((*AGAIN, _NoAnswer)),
            wait=wait_exponential_jitter(initial=self.pause_s, max=60),
            stop=stop_after_attempt(self.tries),
            reraise=True,
        )

        def one(prompt: str, seed: int) -> Answer:
            self._wait_turn()
            try:
                return ask(prompt, seed)
            except ValueError as error:
                raise _NoAnswer(f"the reply is not JSON ({error})") from None

        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting = [pool.submit(again.copy(), one, p, seed % 2**31) for p, seed in zip(prompts, seeds, strict=True)]
            try:
                return [future.result() for future in tqdm(waiting, desc=self.model, disable=len(waiting) < 20)]
            except (openai.APIError, _NoAnswer) as error:
                pool.shutdown(cancel_futures=True)
                raise MlpoError(
                    f"The server {self.url} gave no answer in {self.tries} tries ({type(error).__name__}: "
                    f"{str(error)[:160]}): see that it runs and serves {self.model!r}, then run again; what is stored is kept."
                ) from None

    def _wait_turn(self) -> None:
        if self.requests_per_minute:
            with self._lock:
                now = time.monotonic()
                turn = max(now, self._next)
                self._next = turn + 60 / self.requests_per_minute
            time.sleep(turn - now)


def _answer(reply: Any) -> Answer:
    try:
        choice = reply.choices[0]
        text = (choice.message.content or "").strip()
    except (AttributeError, IndexError, TypeError):
        raise _NoAnswer("the reply has not the form of an answer") from None
    if not text:
        raise _NoAnswer("the answer is empty")
    tokens = getattr(getattr(reply, "usage", None), "completion_tokens", None)
    return Answer(text, choice.finish_reason == "length", tokens or 0)
