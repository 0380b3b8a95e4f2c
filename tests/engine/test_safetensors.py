"""Models as safetensors: read wherever a checkpoint is, and with the same result."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import cache_folder, file_sha256, load_checkpoint
from cryosiam_engine.cli import main
from cryosiam_engine.config.embeddings import EmbeddingsConfig
from cryosiam_engine.dense import RunOptions
from cryosiam_engine.embeddings.model import load_embedding_model
from cryosiam_engine.errors import CheckpointError, OutputError, UnsafeCheckpointError
from cryosiam_engine.networks import load_network, random_checkpoint
from cryosiam_engine.training.model_files import export_model
from cryosiam_engine.training.starting_network import starting_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from training_runs import training_config, write_training_data

Make = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYOSIAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write an untrained checkpoint and export it; gives the exported file."""

    def write(task: str, **options: Any) -> Path:
        torch.save(random_checkpoint(task, **options), tmp_path / f"{task}.ckpt")
        export_model(tmp_path / f"{task}.ckpt", tmp_path / f"{task}.safetensors")
        return tmp_path / f"{task}.safetensors"

    return write


def with_header(path: Path, header: dict[str, Any] | bytes, *, length: int | None = None) -> Path:
    """Replace the header of a file, and leave its numbers as they are."""
    content = path.read_bytes()
    numbers = content[8 + struct.unpack("<Q", content[:8])[0] :]
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + numbers)
    return path


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert isinstance(header, dict)
    return header


def described_as(path: Path, text: str) -> Path:
    header = header_of(path)
    header["__metadata__"]["hyper_parameters"] = text
    return with_header(path, header)


# ---- the same model ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", ["denoising", "semantic", "instance", "dense_simsiam", "embedding"]
)
def test_both_files_are_the_same_model(make: Make, task: str) -> None:
    path = make(task)
    exported, original = load_checkpoint(path), load_checkpoint(path.with_suffix(".ckpt"))
    assert exported.hyper_parameters == original.hyper_parameters
    assert exported.sha256 == file_sha256(path) != original.sha256
    assert exported.state_dict.keys() == original.state_dict.keys()
    own, theirs = (load_network(one, task).state_dict() for one in (exported, original))
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)
    assert all(own[name].dtype == theirs[name].dtype for name in theirs)


def test_number_types_and_odd_shapes_stay(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 4).half(),
        "bfloat": torch.randn(5).bfloat16(),
        "turned": torch.randn(4, 6).T,
        "empty": torch.zeros(0, 3),
        "number": torch.tensor(12),
        "flags": torch.tensor([True, False]),
    }
    tensors["twin"] = tensors["half"]
    torch.save({"state_dict": tensors, "hyper_parameters": {"a": 1}}, tmp_path / "model.ckpt")
    export_model(tmp_path / "model.ckpt", tmp_path / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "model.safetensors").state_dict
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_predictions_are_the_same_bit_by_bit(
    write_config: Callable[..., Path], make: Make, tmp_path: Path
) -> None:
    path = make("denoising", seed=3)
    tomograms, statuses = [], []
    for model in (path.with_suffix(".ckpt"), path):
        out = tmp_path / f"out{model.suffix}"
        changes = {"trained_model": str(model), "prediction_folder": str(out)}
        config = write_config("denoising", test_files=["TS_01.mrc"], **changes)
        assert main(["denoise_predict", "--config_file", str(config)]) == 0
        tomograms.append(mrcfile.read(out / "TS_01.mrc"))
        statuses.append(json.loads((out / "status" / "TS_01.json").read_text()))
        assert statuses[-1]["model_name"] == model.name
        assert file_sha256(model) in json.dumps(statuses[-1])
    assert np.array_equal(*tomograms)
    # What is safetensors already needs no converted form.
    assert [entry.name for entry in cache_folder().iterdir()] == [
        file_sha256(path.with_suffix(".ckpt"))
    ]


def test_another_model_makes_finished_tomograms_stale(
    write_config: Callable[..., Path], make: Make, tmp_path: Path
) -> None:
    config = write_config(
        "denoising", trained_model=str(make("denoising", seed=3)), test_files=["TS_01.mrc"]
    )
    out = tmp_path / "out" / "TS_01.mrc"
    assert main(["denoise_predict", "--config_file", str(config)]) == 0
    first, written = mrcfile.read(out), out.stat().st_mtime_ns
    assert main(["denoise_predict", "--config_file", str(config)]) == 0
    assert out.stat().st_mtime_ns == written
    make("denoising", seed=4)
    assert main(["denoise_predict", "--config_file", str(config)]) == 0
    assert not np.array_equal(mrcfile.read(out), first)


def test_embeddings_take_it(make: Make, tmp_path: Path) -> None:
    path = make("embedding")
    patches = torch.rand(3, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    vectors = []
    for model in (path, path.with_suffix(".ckpt")):
        config = EmbeddingsConfig.model_validate(
            {
                "data_folder": str(tmp_path),
                "instances_mask_folder": str(tmp_path),
                "prediction_folder": str(tmp_path / "out"),
                "masking_type": 0,
                "trained_model": str(model),
                "parameters": {"data": {"patch_size": [32, 32, 32]}, "network": {"dim": 64}},
            }
        )
        loaded = load_embedding_model(config, RunOptions(device="cpu"), masking_type=0)
        assert loaded.sha256 == file_sha256(model)
        with torch.no_grad():
            vectors.append(loaded.network(patches))
    assert torch.equal(*vectors)


@pytest.mark.parametrize("task", ["dense_simsiam", "denoising"])
def test_trainings_begin_with_it(make: Make, tmp_path: Path, task: str) -> None:
    data = write_training_data(tmp_path / "data", 1)
    path = make(task)
    starts = [
        starting_network(training_config(data, tmp_path / "log", pretrained_model=model))
        for model in (path, path.with_suffix(".ckpt"))
    ]
    own, theirs = (start.network.state_dict() for start in starts)
    assert starts[0].is_pretrained
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)


def test_an_exported_model_under_another_name(make: Make, tmp_path: Path) -> None:
    path = make("denoising")
    shutil.copy(path, tmp_path / "exported.ckpt")
    expected = load_checkpoint(path).state_dict
    loaded = load_checkpoint(tmp_path / "exported.ckpt").state_dict
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


@pytest.mark.parametrize("older", [False, True])
def test_a_program_with_this_name_is_refused_unloaded(tmp_path: Path, older: bool) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    path = tmp_path / "model.safetensors"
    content = {"state_dict": Evil(), "hyper_parameters": {}}
    torch.save(content, path, _use_new_zipfile_serialization=not older)
    with pytest.raises(CheckpointError, match=r"looks like a \.ckpt file"):
        load_checkpoint(path)
    with pytest.raises(UnsafeCheckpointError):
        load_checkpoint(path.rename(tmp_path / "model.ckpt"))
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_replaced_later_changes_nothing(make: Make) -> None:
    path = make("denoising", seed=1)
    loaded = load_checkpoint(path)
    expected = {name: tensor.clone() for name, tensor in loaded.state_dict.items()}
    with path.open("r+b") as file:
        file.truncate(10)
    assert all(torch.equal(loaded.state_dict[name], expected[name]) for name in expected)


# ---- what is wrong with a file -------------------------------------------------------------------


def assert_refused(path: Path, match: str) -> None:
    with pytest.raises(CheckpointError, match=match) as refused:
        load_checkpoint(path)
    assert str(path) in refused.value.message
    assert refused.value.remedy
    assert len(str(refused.value)) < 700


def test_header_lengths_that_are_not_true(make: Make) -> None:
    path = make("denoising")
    whole, header = path.read_bytes(), json.dumps(header_of(path)).encode()
    for length in (2**63, 2**64 - 1, 10**12, 99_000_000, len(whole), len(header) - 1, 1, 0):
        path.write_bytes(whole)
        assert_refused(with_header(path, header, length=length), "damaged or cut off")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"{}",
        b"[]" + b" " * 20,
        b"\xff\xfe{}",
        b'{"a": 1}',
        b'{"__metadata__": {"hyper_parameters": {"config": 1}}}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_headers_that_are_none(make: Make, header: bytes) -> None:
    assert_refused(with_header(make("denoising"), header), "damaged or cut off")


@pytest.mark.parametrize(
    "changes",
    [
        {"data_offsets": [0, 2**62]},
        {"data_offsets": [-1, 4]},
        {"data_offsets": [8, 4]},
        {"shape": [2**40, 2**40]},
        {"shape": [-1]},
        {"shape": "all"},
        {"dtype": "OBJECT"},
        {"dtype": "F16"},
    ],
)
def test_tensors_that_do_not_fit_the_file(make: Make, changes: dict[str, Any]) -> None:
    path = make("denoising")
    header = header_of(path)
    name = next(name for name in header if name != "__metadata__")
    header[name] |= changes
    assert_refused(with_header(path, header), "damaged or cut off")


def test_cut_off_and_longer_files(make: Make) -> None:
    path = make("denoising")
    whole = path.read_bytes()
    for content in (whole[:-1], whole[: len(whole) // 2], whole[:12], whole[:5], whole + b"\0"):
        path.write_bytes(content)
        assert_refused(path, "damaged or cut off")
    path.write_bytes(b"")
    assert_refused(path, "is empty")
    path.write_text("<!DOCTYPE html><title>404</title>")
    assert_refused(path, "damaged or cut off")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 400), value=st.integers(0, 255))
def test_any_changed_byte_is_refused_or_harmless(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "model.safetensors"
    described = {"hyper_parameters": json.dumps({"config": {"a": [1, 2]}})}
    save_file({"w": torch.arange(9.0), "b": torch.ones(3)}, path, metadata=described)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        loaded = load_checkpoint(path)
    except CheckpointError as error:
        assert str(path) in error.message
    else:
        assert isinstance(loaded.hyper_parameters, dict)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "does not describe its network"),
        ("{}", "does not describe its network"),
        ("null", "does not describe its network"),
        ('["config"]', "does not describe its network"),
        ("7", "does not describe its network"),
        ("{", "damaged or cut off"),
        ("[" * 100_000, "damaged or cut off"),
        ("[" * 80 + "]" * 80, "nest too deep"),
        (json.dumps({"a": [0] * 100_001}), "hold too much"),
        ('{"a": "' + "b" * (5 << 20) + '"}', "hold too much"),
        ('{"a": ' + "9" * 5000 + "}", "damaged or cut off"),
        ('{"config": 3}', r"lacks hyper_parameters.backbone_config"),
        ('{"config": [], "backbone_config": {"parameters": 1}}', "must be a group of settings"),
    ],
)
def test_descriptions_are_not_trusted(make: Make, text: str, match: str) -> None:
    path = described_as(make("denoising"), text)
    with pytest.raises(CheckpointError, match=match) as refused:
        load_network(load_checkpoint(path))
    assert str(path) in refused.value.message


@pytest.mark.parametrize("value", [-1, 0, True, 2.5, "16", None, [16], {"a": 1}, 1e400])
def test_values_are_checked_as_those_of_checkpoints(make: Make, value: Any) -> None:
    path = make("denoising")
    described = load_checkpoint(path).hyper_parameters
    described["backbone_config"]["parameters"]["network"]["fpn_channels"] = value
    described_as(path, json.dumps(described))
    with pytest.raises(CheckpointError, match="fpn_channels"):
        load_network(load_checkpoint(path))


def test_a_file_without_any_metadata(tmp_path: Path) -> None:
    save_file({"_model.weight": torch.ones(3)}, tmp_path / "weights.safetensors")
    assert_refused(tmp_path / "weights.safetensors", "does not describe its network")
    described = {"hyper_parameters": json.dumps({"config": {}})}
    save_file({}, tmp_path / "empty.safetensors", metadata=described)
    assert_refused(tmp_path / "empty.safetensors", "holds no weights")


def test_more_entries_than_are_needed(make: Make, tmp_path: Path) -> None:
    """Other metadata and the weights of losses do no harm; unknown weights in the network do."""
    path = make("denoising")
    loaded = load_checkpoint(path)
    metadata = {
        "format": "pt",
        "card": "A model.",
        "hyper_parameters": json.dumps(loaded.hyper_parameters | {"made_by": "hand"}),
    }
    expected = load_network(loaded).state_dict()
    save_file(loaded.state_dict | {"loss.weight": torch.ones(2)}, path, metadata=metadata)
    own = load_network(load_checkpoint(path)).state_dict()
    assert all(torch.equal(own[name], expected[name]) for name in expected)
    save_file(loaded.state_dict | {"_model.extra": torch.ones(2)}, path, metadata=metadata)
    with pytest.raises(CheckpointError, match=r"unexpected: head\.extra"):
        load_network(load_checkpoint(path))


# ---- writing -------------------------------------------------------------------------------------


def test_an_export_that_fails_leaves_nothing(make: Make, tmp_path: Path) -> None:
    path = make("denoising")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        export_model(path.with_suffix(".ckpt"), tmp_path / "file" / "model.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        export_model(tmp_path / "absent.ckpt", tmp_path / "out" / "model.safetensors")
    assert not (tmp_path / "out").exists()


def test_an_exported_model_can_be_exported_again(make: Make, tmp_path: Path) -> None:
    path = make("instance")
    export_model(path, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
