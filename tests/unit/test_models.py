"""Finding, checking and converting weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from mlpo import MlpoError, models, paths
from mlpo.sample import chat


def test_weights_are_found_by_checksum_and_the_error_says_what_to_do(monkeypatch, tmp_path):
    """With the package absent and nothing in cache or folder: hash, size and where to put the file."""

    def absent(name):
        raise models.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(models.paths, "CACHE", tmp_path)
    monkeypatch.setattr(models.metadata, "files", absent)
    with pytest.raises(MlpoError) as error:
        models.find_gguf("smollm2")
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in str(error.value)
    assert "98,362,432 bytes" in str(error.value)
    assert "MLPO_MODELS" in str(error.value)


def test_a_folder_of_the_users_is_searched_when_the_package_is_absent(monkeypatch, tmp_path):
    real = models.find_gguf("smollm2")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "any-name.gguf").symlink_to(real)
    monkeypatch.setattr(models.paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(models.metadata, "files", lambda name: [])
    monkeypatch.setenv("MLPO_MODELS", str(folder))
    assert models.find_gguf("smollm2") == folder / "any-name.gguf"


def test_a_corrupt_file_is_named_and_not_used(monkeypatch, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    with (folder / "broken.gguf").open("wb") as file:
        file.truncate(models.PACKAGED["smollm2"].size)
    monkeypatch.setattr(models.paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(models.metadata, "files", lambda name: [])
    monkeypatch.setenv("MLPO_MODELS", str(folder))
    with pytest.raises(MlpoError, match="another checksum: it is corrupt"):
        models.find_gguf("smollm2")


def test_an_interrupted_conversion_leaves_nothing_half_and_is_made_again(tmp_path):
    environment = {**os.environ, "MLPO_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", "from mlpo import models; print(models.local_folder('smollm2'))"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list((tmp_path / "models").glob(".*/*")):
        time.sleep(0.05)  # the first file of the new folder is being written
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list((tmp_path / "models").glob(".smollm2-*"))
    assert not list((tmp_path / "models").glob("smollm2-*"))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    (made,) = (tmp_path / "models").iterdir()
    mine = models.local_folder("smollm2") / "model.safetensors"
    assert models.file_sha256(made / "model.safetensors") == models.file_sha256(mine)


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(MlpoError, match=r"cannot be written \(.*\): free or unlock it, or set MLPO_CACHE"):
        paths.writable(blocked / "cache", "MLPO_CACHE")


def test_fingerprints_are_of_provenance(monkeypatch):
    assert models.fingerprint("pretrained") != models.fingerprint("smollm2")
    before = models.fingerprint("base")
    monkeypatch.setattr(models, "MERGE_VERSION", models.MERGE_VERSION + 1)
    assert models.fingerprint("base") != before


def test_an_unreachable_hub_model_is_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MlpoError, match=r"'no-one/no-model' cannot be loaded .* profiles smoke or cpu"):
        models.load("no-one/no-model")


def test_a_revision_stands_behind_the_name(tmp_path):
    assert models.split_revision("org/model@v1.2") == ("org/model", "v1.2")
    assert models.split_revision("org/model") == ("org/model", None)
    (tmp_path / "my@model").mkdir()
    assert models.split_revision(str(tmp_path / "my@model")) == (str(tmp_path / "my@model"), None)


def test_the_chat_template_is_gemmas(base):
    tokenizer = base.tokenizer
    assert chat(tokenizer, "Hi ") == "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
    turn = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    folded = tokenizer.apply_chat_template(turn, tokenize=False)
    assert folded == "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n"
    assert tokenizer.eos_token == "<end_of_turn>"
    assert tokenizer.pad_token != tokenizer.eos_token
