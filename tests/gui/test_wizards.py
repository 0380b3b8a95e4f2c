"""What the wizards offer, and what they write into the form."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cryosiam_plugin import Plugin
from cryosiam_plugin.protocols.class_lists import parse_classes
from cryosiam_plugin.protocols.model_choice import ChosenModel
from cryosiam_plugin.viewer_preference import OUR_VIEWER, prefer_our_viewer
from cryosiam_plugin.wizards.class_choice import (
    NothingToChoose,
    classes_of,
    read_choice,
    write_classes,
)
from cryosiam_plugin.wizards.gpu_memory import Gpu, parse_gpus, suggest
from cryosiam_plugin.wizards.model_files import model_files

NAMES = {1: "membrane", 2: "ribosome", 3: "70S, idle", 4: "2"}


class Value:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value


def protocol_with(model, labels=None):
    return SimpleNamespace(_model=lambda: model, inputLabels=Value(labels))


@pytest.mark.parametrize("chosen", [[1], [2, 1], [3], [4], [2, 3], [1, 2, 3]])
def test_a_written_choice_is_read_back(chosen):
    """Also of classes whose names would be misread."""
    text = write_classes(chosen, NAMES)
    assert parse_classes(text, NAMES) == sorted(chosen)
    assert read_choice(text, NAMES) == sorted(chosen)


def test_all_classes_are_written_as_nothing():
    assert write_classes(NAMES, NAMES) == ""
    assert read_choice("", NAMES) == sorted(NAMES)
    assert read_choice("nonsense", NAMES) == sorted(NAMES)


def test_classes_without_names_are_offered_by_number():
    model = ChosenModel("m", "m.ckpt", "semantic", {2: "ribosome"}, 3)
    assert classes_of(protocol_with(model)) == {1: "class 1", 2: "ribosome", 3: "class 3"}


def test_the_reason_is_told_where_no_class_is_known():
    with pytest.raises(NothingToChoose, match="Give the model file"):
        classes_of(protocol_with(ChosenModel("", "", problem="Give the model file (.ckpt).")))
    with pytest.raises(NothingToChoose, match="label masks first"):
        classes_of(protocol_with(None))
    masks = SimpleNamespace(getFirstItem=lambda: SimpleNamespace())
    with pytest.raises(NothingToChoose, match="Type their numbers"):
        classes_of(protocol_with(None, masks))


def test_models_of_a_folder_are_those_for_the_task(tmp_path):
    published = Plugin.publishedModels()
    for model in published[:3]:
        (tmp_path / model.file).write_bytes(b"x" * 2_000_000)
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "broken.ckpt").write_text("no model")
    found = model_files(tmp_path, published, [published[0].task])
    assert [m.path.name for m in found] == [published[0].file]
    assert found[0].about == published[0].description
    assert found[0].megabytes == 2
    everything = {m.path.name: m.task for m in model_files(tmp_path, published)}
    assert len(everything) == 4
    assert everything["broken.ckpt"] == "unknown"
    assert model_files(tmp_path / "absent", published) == []


def test_nvidia_smi_is_read():
    text = "0, NVIDIA H100 80GB HBM3, 81559\n1, Odd, Name, 24576\n\nNo devices were found\n"
    assert parse_gpus(text) == [
        Gpu(0, "NVIDIA H100 80GB HBM3", 81559 / 1024),
        Gpu(1, "Odd, Name", 24.0),
    ]


def test_suggestions_grow_with_memory_and_shrink_with_precision():
    def tiles(gib, precision="auto"):
        return suggest(Gpu(0, "x", gib), "reference", precision).batch_size

    assert tiles(11) == 1
    assert tiles(24) == 3
    assert tiles(24, "bf16") == 6
    assert tiles(80) == 8
    assert [tiles(g) for g in range(9, 90, 5)] == sorted(tiles(g) for g in range(9, 90, 5))


def test_what_does_not_fit_is_left_to_automatic_tiling():
    assert suggest(Gpu(0, "x", 6), "reference", "fp32")[:2] == ("auto", 1)
    assert suggest(Gpu(0, "x", 80), "auto", "fp32")[:2] == ("auto", 1)
    assert suggest(None, "reference", "fp32")[:2] == ("reference", 1)


def test_our_viewer_comes_before_the_preferred_ones_once():
    viewers = {"SetOfTomograms": ["imod.viewers.ImodViewer"], "SetOfVolumes": ["a.viewers.B"]}
    prefer_our_viewer(viewers)
    prefer_our_viewer(viewers)
    assert viewers == {
        "SetOfTomograms": [OUR_VIEWER, "imod.viewers.ImodViewer"],
        "SetOfVolumes": ["a.viewers.B"],
    }
