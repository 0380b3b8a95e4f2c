from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import logging
import os
import pathlib
import pickle
import re
import sys
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryosiam_engine.checkpoint import (
    Checkpoint,
    cache_folder,
    file_sha256,
    load_checkpoint,
)
from cryosiam_engine.checkpoint import cache as checkpoint_cache
from cryosiam_engine.checkpoint import unpickle as unpickle_module
from cryosiam_engine.checkpoint.values import STAND_INS, plain
from cryosiam_engine.errors import CheckpointError, UnsafeCheckpointError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SETTINGS = {"config": {"parameters": {"data": {"patch_size": [32, 32, 32]}, "lr": 0.001}}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, not one shared by the session."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("CRYOSIAM_CACHE", str(folder))
    return folder


def content(**more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    weights = {
        "_model.conv1.weight": torch.randn(4, 1, 3, 3, 3, generator=generator),
        "_model.bn1.num_batches_tracked": torch.tensor(12),
    }
    return {"epoch": 3, "state_dict": weights, "hyper_parameters": SETTINGS, **more}


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint as Lightning would; options go to torch.save."""

    def write(*, whole: Any = None, options: dict[str, Any] | None = None, **more: Any) -> Path:
        path = tmp_path / "model.ckpt"
        torch.save(content(**more) if whole is None else whole, path, **(options or {}))
        return path

    return write


def assert_same(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(loaded) == sorted(expected)
    for name, tensor in expected.items():
        assert type(loaded[name]) is torch.Tensor
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].device.type == "cpu"
        assert torch.equal(loaded[name], tensor.detach()), name


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_published_format(golden: Path, cached: bool) -> None:
    paths = sorted(golden.glob("ckpt/**/*.ckpt"))
    assert paths
    for path in paths:
        expected = torch.load(path, map_location="cpu", weights_only=True)
        for _ in range(2 if cached else 1):
            loaded = load_checkpoint(path, cache=cached)
            assert_same(loaded.state_dict, expected["state_dict"])
            assert loaded.hyper_parameters == expected["hyper_parameters"]
            assert loaded.sha256 == file_sha256(path)


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(path) == expected


def test_checkpoint_is_frozen(make: Callable[..., Path]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_checkpoint(make()).sha256 = "other"  # type: ignore[misc]


@pytest.mark.parametrize("cached", [False, True])
def test_number_types_stay(make: Callable[..., Path], cached: bool) -> None:
    kinds = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64, torch.bool]
    kinds += [torch.uint8, torch.uint16]
    weights = {str(kind): torch.tensor([0, 1, 1]).to(kind) for kind in kinds}
    assert_same(load_checkpoint(make(state_dict=weights), cache=cached).state_dict, weights)


@pytest.mark.parametrize("cached", [False, True])
def test_shared_strided_and_empty_tensors(make: Callable[..., Path], cached: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    weights = {
        "encoder.fc": base,
        "global_projector.6": base,
        "part": base[1:3],
        "transposed": base.T,
        "scalar": torch.tensor(2.5),
        "nothing": torch.empty(0, 3),
        "nothing more": torch.empty(0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    loaded = load_checkpoint(make(state_dict=weights), cache=cached).state_dict
    assert_same(loaded, weights)
    assert not any(tensor.requires_grad for tensor in loaded.values())


def test_older_file_format(make: Callable[..., Path]) -> None:
    path = make(options={"_use_new_zipfile_serialization": False})
    assert not zipfile.is_zipfile(path)
    loaded = load_checkpoint(path)
    assert_same(loaded.state_dict, content()["state_dict"])
    assert loaded.hyper_parameters == SETTINGS


def test_what_is_not_a_tensor_is_left_out(make: Callable[..., Path]) -> None:
    weights = {"weight": torch.ones(2), "extra_state": {"a": 1}, 5: torch.ones(1)}
    assert list(load_checkpoint(make(state_dict=weights)).state_dict) == ["weight"]


@contextmanager
def lightning_in_place() -> Iterator[type]:
    """Lightning's settings class under its real name, for as long as a file is written."""
    names = ["lightning", "lightning.fabric", "lightning.fabric.utilities"]
    names.append("lightning.fabric.utilities.data")
    assert not set(names) & sys.modules.keys()
    kind = type("AttributeDict", (dict,), {"__module__": names[-1]})
    sys.modules.update({name: types.ModuleType(name) for name in names})
    sys.modules[names[-1]].AttributeDict = kind  # type: ignore[attr-defined]
    try:
        yield kind
    finally:
        for name in names:
            del sys.modules[name]


@pytest.fixture
def without_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning as if it were not imported, though other tests may have trained with it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("without_lightning")
def test_what_lightning_writes(make: Callable[..., Path]) -> None:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=10)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    schedule_state = schedule.state_dict()
    schedule_state["anneal_func"] = torch.optim.lr_scheduler.OneCycleLR._annealing_cos
    filled = collections.defaultdict(list, {"a": [1, 2]})
    with lightning_in_place() as attribute_dict:
        hyper_parameters = attribute_dict(
            config=attribute_dict(SETTINGS["config"]),
            log_dir=pathlib.PurePosixPath("/data/log"),
            windows=pathlib.PureWindowsPath("C:/data"),
            namespace=argparse.Namespace(lr=np.float32(0.5), steps=np.int64(7)),
            flag=np.bool_(True),
            big_endian=np.array(513, dtype=">i4")[()],
            text=np.str_("Å"),
            array=np.arange(6, dtype=np.float32).reshape(2, 3),
            columns=np.asfortranarray(np.arange(6).reshape(2, 3)),
            filled=filled,
            size=torch.Size([1, 2]),
            tensor=torch.tensor([1.5, 2.5]),
            kind=torch.float16,
            several={3, 1, 2},
            raw=b"abc",
            nothing=None,
        )
        path = make(
            state_dict=collections.OrderedDict(network.state_dict()),
            hyper_parameters=hyper_parameters,
            optimizer_states=[optimizer.state_dict()],
            lr_schedulers=[schedule_state],
            callbacks={"ModelCheckpoint{'monitor': 'val_loss'}": {"dirpath": pathlib.Path("/log")}},
        )
    assert "lightning" not in sys.modules
    loaded = load_checkpoint(path)
    assert_same(loaded.state_dict, network.state_dict())
    assert loaded.hyper_parameters == {
        "config": SETTINGS["config"],
        "log_dir": "/data/log",
        "windows": "C:\\data",
        "namespace": {"lr": 0.5, "steps": 7},
        "flag": True,
        "big_endian": 513,
        "text": "Å",
        "array": [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]],
        "columns": [[0, 1, 2], [3, 4, 5]],
        "filled": {"a": [1, 2]},
        "size": [1, 2],
        "tensor": [1.5, 2.5],
        "kind": "torch.float16",
        "several": [1, 2, 3],
        "raw": "abc",
        "nothing": None,
    }
    assert loaded.hyper_parameters == load_checkpoint(path, cache=False).hyper_parameters


def test_a_loss_logged_as_monai_tensor(make: Callable[..., Path]) -> None:
    from monai.data import MetaTensor

    image = MetaTensor(torch.ones(1, 2, 2, 2), meta={"filename_or_obj": "TS_01.mrc"})
    path = make(callbacks={"best_model_score": image.mean()}, state_dict={"weight": image})
    assert_same(load_checkpoint(path).state_dict, {"weight": torch.ones(1, 2, 2, 2)})


# ---------------------------------------------------------------- what is refused: code


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def system(trace: Path) -> Call:
    return Call(os.system, f"touch '{trace}'")


def evaluate(trace: Path) -> Call:
    return Call(eval, f"open({str(trace)!r}, 'w').close()")


def execute(trace: Path) -> Call:
    return Call(exec, f"open({str(trace)!r}, 'w').close()")


def assert_refused_unrun(path: Path, trace: Path, run: Callable[[], Any], name: str) -> None:
    """Show that `path` does leave its trace when it is trusted, then that we leave none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    assert trace.exists(), "the attack itself does not work"
    trace.unlink()
    for _ in range(2):
        with pytest.raises(UnsafeCheckpointError, match=name) as caught:
            load_checkpoint(path)
        assert str(path) in caught.value.message
        assert caught.value.remedy
        assert not trace.exists()
    assert not list(cache_folder().rglob("*.json"))


ATTACKS = [
    (system, r"(posix|nt)\.system"),
    (evaluate, r"builtins\.eval"),
    (execute, r"builtins\.exec"),
]


@pytest.mark.parametrize(("attack", "name"), ATTACKS, ids=["system", "eval", "exec"])
@pytest.mark.parametrize(
    "options",
    [{}, {"pickle_protocol": 4}, {"_use_new_zipfile_serialization": False}],
    ids=["zip", "protocol 4", "older format"],
)
@pytest.mark.parametrize("place", ["hyper_parameters", "optimizer_states", "state_dict"])
def test_calls_are_refused_by_name(
    make: Callable[..., Path],
    tmp_path: Path,
    attack: Callable[[Path], Call],
    name: str,
    options: dict[str, Any],
    place: str,
) -> None:
    trace = tmp_path / "trace"
    path = make(options=options, **{place: {"a": [attack(trace)]}})
    assert_refused_unrun(path, trace, lambda: torch.load(path, weights_only=False), name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_refused_by_name(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "model.ckpt", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"state_dict": {}, "x": system(trace)}, protocol=protocol))
    assert_refused_unrun(path, trace, lambda: pickle.loads(path.read_bytes()), "system")  # noqa: S301


def test_name_taken_from_the_memo(tmp_path: Path, make: Callable[..., Path]) -> None:
    # In protocol 4 the second look-up of a module takes its name from the pickle's memory.
    trace = tmp_path / "trace"
    path = make(options={"pickle_protocol": 4}, x=[os.getpid, system(trace)])
    with pytest.raises(UnsafeCheckpointError, match=f"{os.name}.*getpid.*{os.name}.system"):
        load_checkpoint(path)


def with_pickle(path: Path, pickled: bytes, name: str = "data.pkl") -> Path:
    """Put a pickle of our own into a checkpoint, beside or instead of the one it has."""
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: archive.read(record) for record in archive.infolist()}
    records[f"{next(iter(records)).partition('/')[0]}/{name}"] = pickled
    with zipfile.ZipFile(path, "w") as archive:
        for record, data in records.items():
            archive.writestr(record, data)
    return path


def test_second_pickle_in_the_archive(make: Callable[..., Path], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    pickled = pickle.dumps(system(trace))
    path = with_pickle(make(), pickled, name="more.pkl")
    assert_refused_unrun(path, trace, lambda: pickle.loads(pickled), "system")  # noqa: S301


def test_one_call_at_the_end_of_a_torn_pickle(make: Callable[..., Path], tmp_path: Path) -> None:
    # The call comes before the bytes that make no sense.
    trace = tmp_path / "trace"
    pickled = pickle.dumps(system(trace), protocol=2)[:-1] + b"\xff\xff"

    def run() -> None:
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(pickled)  # noqa: S301

    assert_refused_unrun(with_pickle(make(), pickled), trace, run, "system")


def test_allowed_names_cannot_be_chained_into_a_call(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    """From an allowed class through getattr to exec: every name in the file is on the list."""
    trace = tmp_path / "trace"

    def attribute(owner: bytes, name: str) -> bytes:
        return b"cbuiltins\ngetattr\n(" + owner + b"V" + name.encode() + b"\ntR"

    def call(function: bytes, argument: str) -> bytes:
        return function + b"(V" + argument.encode() + b"\ntR"

    scope = attribute(
        attribute(b"ctorch.optim.lr_scheduler\nOneCycleLR\n", "__init__"), "__globals__"
    )
    builtins = call(attribute(scope, "get"), "__builtins__")
    run = call(attribute(builtins, "get"), "exec")
    for opcode_v in (True, False):
        pickled = b"\x80\x02" + call(run, f"open('{trace}', 'w').close()") + b"."
        if not opcode_v:
            # The same with the texts as PyTorch's reader knows them.
            pickled = binary_texts(pickled)
        pickle.loads(pickled)  # noqa: S301
        assert trace.exists()
        trace.unlink()
        with pytest.raises(CheckpointError):
            load_checkpoint(with_pickle(make(), pickled))
        assert not trace.exists()


def binary_texts(pickled: bytes) -> bytes:
    """Rewrite the line-wise texts of a pickle as counted ones."""
    import pickletools

    pieces = []
    operations = [(op.name, argument, at) for op, argument, at in pickletools.genops(pickled)]
    ends = [at for _, _, at in operations[1:]] + [len(pickled)]
    for (name, argument, at), end in zip(operations, ends, strict=True):
        piece = pickled[at:end]
        if name == "UNICODE":
            text = argument.encode()
            piece = b"X" + len(text).to_bytes(4, "little") + text
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("code", ["O8", "V8", "M8[ns]", "f8,O", 8, "i999999999"])
def test_numpy_types_that_hold_more_than_numbers(make: Callable[..., Path], code: object) -> None:
    text = f"X{chr(len(str(code)))}\0\0\0{code}" if isinstance(code, str) else f"K{chr(code)}"  # type: ignore[arg-type]
    pickled = b"\x80\x02cnumpy\ndtype\n" + text.encode("latin-1") + b"\x85R."
    with pytest.raises(CheckpointError):
        load_checkpoint(with_pickle(make(), pickled))


class Dressed:
    """Pickles as an OrderedDict whose methods are replaced by the file."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = dict.fromkeys(["items", "keys", "get"], dict)
        return (collections.OrderedDict, (), attributes, None, iter(self.values.items()))


def test_methods_that_a_file_brings_are_not_used(make: Callable[..., Path]) -> None:
    weights = content()["state_dict"]
    settings_ = Dressed({"config": Dressed(SETTINGS["config"])})
    whole = Dressed({"state_dict": Dressed(weights), "hyper_parameters": settings_})
    path = make(whole=whole)
    assert torch.load(path, weights_only=False).items() == {}
    loaded = load_checkpoint(path)
    assert_same(loaded.state_dict, weights)
    assert loaded.hyper_parameters == SETTINGS


def is_pair(entry_: object) -> bool:
    return isinstance(entry_, tuple)


def allowed_elsewhere(text: str) -> str:
    raise RuntimeError(f"was run with {text}")


def test_what_other_packages_allow_is_not_allowed_here(make: Callable[..., Path]) -> None:
    path = make(x=Call(allowed_elsewhere, "this"))
    torch.serialization.add_safe_globals([allowed_elsewhere])
    try:
        with pytest.raises(UnsafeCheckpointError, match="allowed_elsewhere"):
            load_checkpoint(path)
        before = set(torch.serialization.get_safe_globals())
        load_checkpoint(make(), cache=False)
        assert set(torch.serialization.get_safe_globals()) == before
        assert allowed_elsewhere in before
        assert not [name for _, name in filter(is_pair, before) if name in STAND_INS]
    finally:
        torch.serialization._weights_only_unpickler._remove_safe_globals([allowed_elsewhere])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
def test_second_line_holds_without_the_first(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.setattr(unpickle_module, "scan", lambda _path: zipped)
    options = {"_use_new_zipfile_serialization": zipped}
    trace = tmp_path / "trace"
    torch.serialization.add_safe_globals([allowed_elsewhere])
    try:
        for attack in (system(trace), evaluate(trace), Call(allowed_elsewhere, "this")):
            with pytest.raises(UnsafeCheckpointError, match="no checkpoint of this kind needs"):
                load_checkpoint(make(options=options, x=attack))
            assert not trace.exists()
    finally:
        torch.serialization._weights_only_unpickler._remove_safe_globals([allowed_elsewhere])


def test_names_are_shown_without_their_control_characters(make: Callable[..., Path]) -> None:
    with pytest.raises(UnsafeCheckpointError) as caught:
        load_checkpoint(with_pickle(make(), b"\x80\x02c\x1b[31mevil\nname\n."))
    assert "evil" in caught.value.message
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "2.9.1"])
def test_unsafe_torch_is_refused(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    path = make()
    monkeypatch.setattr(torch, "__version__", version)
    with pytest.raises(CheckpointError, match=re.escape(version)) as caught:
        load_checkpoint(path)
    assert "2.10" in caught.value.remedy


# ---------------------------------------------------------------- what is refused: other files


def assert_refused(path: Path, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert not isinstance(caught.value, UnsafeCheckpointError)


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert_refused(tmp_path / "absent.ckpt", "There is no checkpoint")
    assert_refused(tmp_path, "is a folder")
    (tmp_path / "empty.ckpt").touch()
    assert_refused(tmp_path / "empty.ckpt", "is empty")
    with pytest.raises(CheckpointError, match=r"absent\.ckpt"):
        file_sha256(tmp_path / "absent.ckpt")


def test_unreadable(make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path, really = make(), Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return really(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(path, "Permission denied")


@pytest.mark.parametrize(
    "data",
    [
        b"<!DOCTYPE html><html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        b"config:\n  data_folder: x\n",
        b"\0" * 100,
        b"\x80\x02}q\0.",
        bytes(range(256)),
    ],
)
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(data)
    assert_refused(path, "is not a checkpoint")


def test_other_archives(tmp_path: Path, make: Callable[..., Path]) -> None:
    original = make()
    path = tmp_path / "other.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(path, "is a zip archive, but not a checkpoint")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1)), path)
    assert_refused(path, "TorchScript")

    with zipfile.ZipFile(original) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert_refused(path, "compression")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "older format"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_truncated(make: Callable[..., Path], zipped: bool, data: st.DataObject) -> None:
    path = make(options={"_use_new_zipfile_serialization": zipped})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    assert_refused(path, "damaged or cut off|is not a checkpoint")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_changed_byte_is_noticed_or_harmless(
    make: Callable[..., Path], data: st.DataObject
) -> None:
    path = make()
    changed = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        loaded = load_checkpoint(path, cache=False)
    except CheckpointError as error:
        assert error.remedy
    else:
        assert_same(loaded.state_dict, content()["state_dict"])
        assert loaded.hyper_parameters == SETTINGS


def test_newer_pickle_protocol(make: Callable[..., Path]) -> None:
    assert_refused(make(options={"pickle_protocol": 4}), "newer pickle protocol")


def test_without_weights_or_description(make: Callable[..., Path]) -> None:
    assert_refused(make(state_dict={}), "holds no weights")
    assert_refused(make(state_dict=None), "holds no weights")
    assert_refused(make(whole={"hyper_parameters": SETTINGS}), "holds no weights")
    assert_refused(make(hyper_parameters={}), "does not describe its network")
    assert_refused(make(whole={"state_dict": {"a": torch.ones(1)}}), "does not describe")
    assert_refused(make(whole=torch.ones(2)), "all it holds is a Tensor")
    assert_refused(make(whole=[1, 2]), "all it holds is a list")


def test_settings_without_end(make: Callable[..., Path]) -> None:
    circle: dict[str, Any] = {}
    circle["again"] = circle
    assert_refused(make(hyper_parameters=circle), "nest too deep")
    doubled: list[Any] = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    assert_refused(make(hyper_parameters={"a": doubled}), "hold too much")


def test_file_that_changes_meanwhile(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, load = make(), torch.load

    def load_while_written(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        os.utime(path, ns=(0, 0))
        return loaded

    monkeypatch.setattr(torch, "load", load_while_written)
    assert_refused(path, "changed while")


# ---------------------------------------------------------------- the cache


def entry(loaded: Checkpoint) -> tuple[Path, Path]:
    folder = cache_folder() / loaded.sha256
    return folder / "weights.safetensors", folder / "hyper_parameters.json"


def forbid_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("unpickled")

    for owner, name in [(torch, "load"), (pickle, "load"), (pickle, "Unpickler")]:
        monkeypatch.setattr(owner, name, refuse)
    monkeypatch.setattr(torch._weights_only_unpickler, "Unpickler", refuse)


def test_second_load_does_not_unpickle(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(optimizer_states=[{"big": torch.zeros(100_000)}])
    first = load_checkpoint(path)
    weights, description = entry(first)
    assert sorted(weights.parent.iterdir()) == sorted([weights, description])
    assert weights.stat().st_size < 10_000
    assert json.loads(description.read_text())["hyper_parameters"] == SETTINGS
    forbid_unpickling(monkeypatch)
    second = load_checkpoint(path)
    assert_same(second.state_dict, first.state_dict)
    assert second.hyper_parameters == first.hyper_parameters
    with pytest.raises(AssertionError, match="unpickled"):
        torch.load(path)


def test_cache_off_leaves_nothing_and_reads_nothing(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    load_checkpoint(path, cache=False)
    assert not cache_folder().exists()
    load_checkpoint(path)
    forbid_unpickling(monkeypatch)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, cache=False)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_json(path: Path) -> None:
    path.write_text('["not", "an entry"]')


def older(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "format": 0}))


@pytest.mark.parametrize(
    ("which", "damage"),
    [
        *[(0, damage) for damage in (cut, flip, empty, Path.unlink)],
        *[(1, damage) for damage in (cut, empty, other_json, older, Path.unlink)],
    ],
)
def test_damaged_entry_is_made_anew(
    make: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    which: int,
    damage: Callable[[Path], None],
) -> None:
    path = make()
    # A tensor that is still mapped must not be written to below.
    file = entry(dataclasses.replace(load_checkpoint(path), state_dict={}))[which]
    damage(file)
    assert_same(load_checkpoint(path).state_dict, content()["state_dict"])
    forbid_unpickling(monkeypatch)
    again = load_checkpoint(path)
    assert_same(again.state_dict, content()["state_dict"])
    assert again.hyper_parameters == SETTINGS


def test_changed_file_is_another_entry(make: Callable[..., Path]) -> None:
    first = load_checkpoint(make())
    second = load_checkpoint(make(state_dict={"other": torch.zeros(3)}))
    assert first.sha256 != second.sha256
    assert list(second.state_dict) == ["other"]
    assert_same(first.state_dict, content()["state_dict"])


def test_moved_file_is_the_same_entry(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make()
    load_checkpoint(path)
    moved = path.rename(tmp_path / "renamed.ckpt")
    forbid_unpickling(monkeypatch)
    assert load_checkpoint(moved).path == moved


def test_cache_folder_that_cannot_be_written(
    make: Callable[..., Path], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file in the folder's place")
    with caplog.at_level(logging.WARNING):
        loaded = load_checkpoint(make())
    assert_same(loaded.state_dict, content()["state_dict"])
    assert loaded.hyper_parameters == SETTINGS
    assert "CRYOSIAM_CACHE" in caplog.text


def test_full_disk(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_cache, "save_file", fail)
    loaded = load_checkpoint(make())
    assert_same(loaded.state_dict, content()["state_dict"])
    assert "No space left" in caplog.text
    assert not [file for file in cache_folder().rglob("*") if file.is_file()]


def test_tensors_that_safetensors_cannot_hold(make: Callable[..., Path]) -> None:
    weights = {"__metadata__": torch.ones(2), "\udc80": torch.ones(1)}
    assert_same(load_checkpoint(make(state_dict=weights)).state_dict, weights)


def test_several_at_once(make: Callable[..., Path]) -> None:
    path = make()
    with ThreadPoolExecutor(4) as pool:
        loads = list(pool.map(lambda _: load_checkpoint(path), range(8)))
    for loaded in loads:
        assert_same(loaded.state_dict, content()["state_dict"])
    assert len([file for file in cache_folder().rglob("*") if file.is_file()]) == 2


def test_entry_is_as_readable_as_its_folder(make: Callable[..., Path], cache: Path) -> None:
    old = os.umask(0o027)
    try:
        weights, description = entry(load_checkpoint(make()))
    finally:
        os.umask(old)
    assert weights.stat().st_mode & 0o777 == description.stat().st_mode & 0o777 == 0o640


def test_cache_folder_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CRYOSIAM_CACHE", "~/own")
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("CRYOSIAM_CACHE")
    assert cache_folder() == Path("/xdg/cryosiam")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "cryosiam"


def test_user_without_home(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def homeless(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    assert_same(load_checkpoint(make()).state_dict, content()["state_dict"])
    assert "CRYOSIAM_CACHE" in caplog.text


# ---------------------------------------------------------------- plain values

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=20,
)


@given(values)
def test_plain_values_stay_and_survive_json(value: Any) -> None:
    assert plain(value) == value
    assert json.loads(json.dumps(plain(value))) == value
