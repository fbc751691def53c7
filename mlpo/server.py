"""A client for any OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, or a paid API.

Requests run side by side up to a limit, keep to a rate, and are tried again with growing pauses when a server is busy, fails,
hangs, or sends something that is no answer. The key comes from the environment and is never stored or shown.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import openai
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tqdm.auto import tqdm

from mlpo.errors import MlpoError
from mlpo.models import digest
from mlpo.profiles import Sampling, ServerLimits
from mlpo.records import Answer

AGAIN = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.APIResponseValidationError)
REFUSED = (openai.BadRequestError, openai.UnprocessableEntityError)  # this prompt, not the server


class _NoAnswer(Exception):
    """A reply that is not the JSON it should be."""


class _Empty(Exception):
    """An answer without text."""


class Server:
    """`name` is MODEL@URL, e.g. "Qwen/Qwen3-8B@http://localhost:8000/v1". `pause_s`: first wait before another try."""

    def __init__(self, name: str, limits: ServerLimits | None = None, pause_s: float = 1.0) -> None:
        self.model, _, self.url = name.rpartition("@")
        if not self.model or not self.url.startswith(("http://", "https://")):
            raise MlpoError(f"{name!r} is not a server: write MODEL@URL, e.g. my-model@http://localhost:8000/v1.")
        self.limits, self.pause_s = limits or ServerLimits(), pause_s
        self.fingerprint = digest({"server": self.model})  # which weights a server holds cannot be seen from outside
        key = os.environ.get("OPENAI_API_KEY", "none")  # a local server asks for none
        self._client = openai.OpenAI(base_url=self.url, api_key=key, timeout=self.limits.timeout_s, max_retries=0)
        self._lock, self._next = threading.Lock(), 0.0

    def chat(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Answers to one-turn conversations, in order. A prompt that the server refuses (too long, filtered) or keeps answering
        with nothing gets an empty answer; MlpoError where the server itself does not work."""
        again = Retrying(
            retry=retry_if_exception_type((*AGAIN, _NoAnswer, _Empty)),
            wait=wait_exponential_jitter(initial=self.pause_s, max=60),
            stop=stop_after_attempt(self.limits.tries),
            reraise=True,
        )

        def one(prompt: str, seed: int) -> Answer:
            try:
                return again.copy()(self._ask, prompt, sampling, seed % 2**31)
            except (_Empty, *REFUSED):
                return Answer("", False)

        pool = ThreadPoolExecutor(self.limits.concurrency)
        try:
            waiting = [pool.submit(one, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
            return [future.result() for future in tqdm(waiting, desc=self.model, disable=len(waiting) < 20)]
        except (openai.APIError, _NoAnswer) as error:
            raise MlpoError(
                f"The server {self.url} gave no answer in {self.limits.tries} tries ({type(error).__name__}: {str(error)[:160]}): "
                f"see that it runs and serves {self.model!r}, then run again; what is stored is kept."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C nothing more is sent

    def _ask(self, prompt: str, sampling: Sampling, seed: int) -> Answer:
        self._wait_turn()
        try:
            reply = self._client.chat.completions.create(
                model=self.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                seed=seed,
            )
            choice = reply.choices[0]
            text = re.sub(r"<think>.*?(</think>|$)", "", choice.message.content or "", flags=re.DOTALL).strip()
        except (ValueError, AttributeError, IndexError, TypeError) as error:
            raise _NoAnswer(f"the reply has not the form of an answer ({error})") from None
        if not text:
            raise _Empty("the answer is empty")
        tokens = reply.usage.completion_tokens if reply.usage else 0
        return Answer(text, choice.finish_reason == "length", tokens)

    def _wait_turn(self) -> None:
        if self.limits.requests_per_minute:
            with self._lock:
                now = time.monotonic()
                turn = max(now, self._next)
                self._next = turn + 60 / self.limits.requests_per_minute
            time.sleep(turn - now)
