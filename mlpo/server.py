"""A client for any OpenAI-compatible server: vLLM, SGLang, llama.cpp, `transformers serve`, or a paid API.

Requests run side by side up to a limit, keep to a rate, and are tried again with growing pauses when a server is busy, fails,
hangs, or sends something that is no answer. The key comes from the environment and is never stored or shown.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

import openai
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tqdm.auto import tqdm

from mlpo.errors import MlpoError
from mlpo.models import digest
from mlpo.profiles import Sampling, ServerLimits
from mlpo.records import Answer

T = TypeVar("T")
AGAIN = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError, openai.APIResponseValidationError)
REFUSED = (openai.BadRequestError, openai.UnprocessableEntityError)  # this prompt, or the settings of every prompt
FORBIDDEN = (openai.AuthenticationError, openai.PermissionDeniedError)
DOUBT = 8  # where the first so many prompts are refused and none is answered, it may be the settings


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
        key = os.environ.get("OPENAI_API_KEY") or "no-key"  # a local server asks for none
        self._client = openai.OpenAI(base_url=self.url, api_key=key, timeout=self.limits.timeout_s, max_retries=0)
        self._lock, self._next = threading.Lock(), 0.0

    def chat(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> list[Answer]:
        """Answers to one-turn conversations, in order; else as `stream`."""
        answers = dict(self.stream(prompts, sampling, seeds))
        return [answers[i] for i in range(len(prompts))]

    def stream(self, prompts: Sequence[str], sampling: Sampling, seeds: Sequence[int]) -> Generator[tuple[int, Answer], None, None]:
        """Answers as they come, each with the place of its prompt. A prompt that the server refuses (too long, filtered) or keeps
        answering with nothing gets an empty answer; MlpoError where the server itself does not work, or refuses the settings."""

        def one(prompt: str, seed: int) -> Answer | openai.APIError:
            try:
                return self._again(self._ask, prompt, sampling, seed % 2**31)
            except _Empty:
                return Answer("", False)
            except REFUSED as error:
                return error

        pool = ThreadPoolExecutor(self.limits.concurrency)
        try:
            waiting = {pool.submit(one, *row): i for i, row in enumerate(zip(prompts, seeds, strict=True))}
            refused: list[int] = []
            bar = tqdm(as_completed(waiting), desc=self.model, total=len(waiting), disable=len(waiting) < 20)
            for done, future in enumerate(bar, start=1):
                answer = future.result()
                if isinstance(answer, Answer):
                    yield waiting[future], answer
                    continue
                refused.append(waiting[future])
                if done == len(refused) == min(DOUBT, len(waiting)) and isinstance(plain := one("Say yes.", 0), REFUSED):
                    raise plain
            yield from ((i, Answer("", False)) for i in refused)
        except (openai.APIError, _NoAnswer) as error:
            refusal = f"it refuses the plainest prompt too, so change the settings ({sampling!r})"
            raise self._failed(error, refusal) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after an error or Ctrl-C nothing more is sent

    def classify(self, conversations: Sequence[list[dict[str, str]]]) -> list[float]:
        """What a classifier with one output says of each conversation, in order; MlpoError where the server does not work."""

        def one(messages: list[dict[str, str]]) -> float:
            self._wait_turn()
            body = {"model": self.model, "messages": messages, "use_activation": False}
            reply: Any = self._client.post("/classify", body=body, cast_to=object)
            try:
                return float(reply["data"][0]["probs"][0])
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise _NoAnswer(f"the reply has no data[0].probs[0] ({error})") from None

        try:
            with ThreadPoolExecutor(self.limits.concurrency) as pool:
                return list(pool.map(lambda messages: self._again(one, messages), conversations))
        except (openai.APIError, _NoAnswer) as error:
            raise self._failed(error, "see that it is a classifier and knows /classify") from None

    def _again(self, ask: Callable[..., T], *arguments: Any) -> T:
        """Ask, and with growing pauses ask again where the server was busy or sent something that is no answer."""
        retrying = Retrying(
            retry=retry_if_exception_type((*AGAIN, _NoAnswer, _Empty)),
            wait=wait_exponential_jitter(initial=self.pause_s, max=60, jitter=self.pause_s),
            stop=stop_after_attempt(self.limits.tries),
            reraise=True,
        )
        return retrying(ask, *arguments)

    def _failed(self, error: Exception, refused: str) -> MlpoError:
        """One sentence that never holds the key; `refused`: what to do where the server understands and will not."""
        advice = f"see that it runs and serves {self.model!r}"
        if isinstance(error, FORBIDDEN):
            advice = "set OPENAI_API_KEY to a key that it accepts"
        if isinstance(error, REFUSED):
            advice = refused
        said = " ".join(str(error).replace(self._client.api_key, "[key]").split())[:160]
        return MlpoError(
            f"The server {self.url} gave no answer in up to {self.limits.tries} tries ({type(error).__name__}: {said}): "
            f"{advice}, then run again; what is stored is kept."
        )

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
        text = text.encode("utf-8", "replace").decode()  # half an emoji can be said in JSON, but not stored
        tokens = reply.usage.completion_tokens if reply.usage else 0
        return Answer(text, choice.finish_reason == "length", tokens)

    def _wait_turn(self) -> None:
        if self.limits.requests_per_minute:
            with self._lock:
                now = time.monotonic()
                turn = max(now, self._next)
                self._next = turn + 60 / self.limits.requests_per_minute
            time.sleep(turn - now)
