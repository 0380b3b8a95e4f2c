"""A model is trained in a real project, stopped, continued, and used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipion_projects import Project, kill, outputs_of, processes_of, said, voxels, wait_for
from training_data import (
    CLASSES,
    VOXEL_SIZE,
    import_masks,
    log_dir,
    training,
    write,
    write_training_data,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(domain, engine_python, tmp_path_factory):
    import os

    os.environ.update(CRYOSIAM_ENGINE_PYTHON=engine_python, CRYOSIAM_RUNTIME="native")
    from cryosiam_plugin.tests.synthetic import simulated_tomograms

    return write_training_data(tmp_path_factory.mktemp("training"), simulated_tomograms(2))


@pytest.fixture(scope="module")
def project(data, engine_python):
    return Project("training", engine_python)


@pytest.fixture(scope="module")
def tomograms(project, data):
    return project.import_tomograms(data / "tomograms")


@pytest.fixture(scope="module")
def masks(project, data, tomograms):
    return import_masks(project, tomograms, data / "masks")


@pytest.fixture(scope="module")
def one_class(project, data, tomograms):
    import mrcfile

    for path in sorted((data / "masks").glob("*.mrc")):
        write(data / "lamellae" / path.name, (mrcfile.read(path) > 0).astype(np.int8))
    return import_masks(project, tomograms, data / "lamellae")


def epochs_of(protocol):
    from cryosiam_plugin.protocols.training_course import METRICS_FILE, read_course

    lines = (log_dir(protocol) / METRICS_FILE).read_text().count('"kind": "epoch"')
    epochs = sorted(read_course(log_dir(protocol)).epochs)
    assert len(epochs) == lines, "an epoch is there twice"
    return epochs


def wait_for_epoch(protocol, number):
    """Wait until it can be gone on from: the curves are written before the checkpoint."""
    from cryosiam_plugin.protocols.training_progress import read_progress

    try:
        wait_for(lambda: read_progress(log_dir(protocol)).epochs >= number, f"epoch {number}")
    except TimeoutError:
        pytest.fail(said(protocol))


def commands_of(protocol):
    scripts = sorted(Path(protocol._getExtraPath("engine")).glob("*.sh"))
    return ["dry run" if "--dry_run" in path.read_text() else "training" for path in scripts]


@pytest.fixture(scope="module")
def trained(project, tomograms, masks):
    protocol = training(project, tomograms, masks, learningRate=0.01)
    project.launch(protocol)
    assert project.again(protocol).isFinished(), said(protocol)
    return protocol


def test_a_trained_model_is_known_to_the_project(project, tomograms, masks, trained):
    from cryosiam_plugin.protocols.checkpoint_summary import sha256_of

    protocol = trained
    assert outputs_of(protocol) == ["model"]
    model = protocol.model
    assert (model.getTask(), model.getClassNames(), model.getNClasses()) == ("semantic", CLASSES, 2)
    assert model.getSamplingRate() == VOXEL_SIZE
    assert model.getSha256() == sha256_of(model.getPath())
    assert not Path(model.getPath()).is_absolute()
    assert commands_of(protocol) == ["dry run", "training"]
    assert Path(protocol._getExtraPath("learning_curves.png")).stat().st_size > 10_000
    summary = "\n".join(protocol.summary())
    for text in ("Best epoch", "proteasome 0.", "rubisco 0.", model.getSha256(), "TS_01", "TS_02"):
        assert text in summary
    assert model.getSha256() in "\n".join(protocol.methods())
    parents = {parent.getObjId() for parent in project.scipion.getSourceParents(model)}
    assert parents == {tomograms.getObjId(), masks.getObjId()}


def test_a_trained_model_is_used_with_its_names(project, tomograms, trained):
    from cryosiam_plugin.convert import label_table_of
    from cryosiam_plugin.protocols import ProtCryosiamSemantic

    segmented = project.run(
        ProtCryosiamSemantic,
        inputTomograms=(tomograms, "Tomograms"),
        modelSource=2,
        modelObject=(trained, "model"),
        threshold=0.1,
        useGpu=False,
        numberOfThreads=3,
    )
    assert segmented.isFinished(), said(segmented)
    for mask in segmented.semanticMasks.iterItems():
        assert label_table_of(mask) == CLASSES
        assert set(np.unique(voxels(mask))) <= {0, 1, 2}
    segmented.semanticMasks.close()


def test_other_protocols_know_its_classes(project, tomograms, trained):
    from cryosiam_plugin.protocols import ProtCryosiamLamella, ProtCryosiamParticles
    from cryosiam_plugin.wizards.class_choice import classes_of

    model = {"modelSource": 2, "modelObject": (trained, "model")}
    model["inputTomograms"] = (tomograms, "Tomograms")
    particles = project.new(ProtCryosiamParticles, classes="rubisco", **model)
    assert particles._validate() == []
    assert classes_of(particles) == CLASSES
    # Two classes are no lamella.
    assert "another task" in project.new(ProtCryosiamLamella, **model)._validate()[0]


def test_a_trained_model_is_trained_further(project, tomograms, masks, trained):
    """Its heads are kept, so that it begins where it ended."""
    settings = {"startFrom": 0, "modelSource": 2, "modelObject": (trained, "model"), "learns": 0}
    protocol = training(project, tomograms, masks, maxEpochs=1, learningRate=1e-6, **settings)
    project.launch(protocol)
    protocol = project.again(protocol)
    assert protocol.isFinished(), said(protocol)
    before, after = (run._record()["result"]["loss"] for run in (trained, protocol))
    # New heads would begin far worse; statistics of normalisations go on to become better.
    assert after < 1.1 * before
    parents = {parent.getObjId() for parent in project.scipion.getSourceParents(protocol.model)}
    assert trained.getObjId() in parents
    assert "the model proteasome, rubisco" in "\n".join(protocol.methods())


def test_killed_and_stopped_trainings_go_on(project, tomograms, masks, one_class):
    """Of one class: its model is one for lamellae too."""
    from cryosiam_plugin.protocols import ProtCryosiamLamella

    settings = {
        "classNames": "protein",
        "maxEpochs": 6,
        "patchesPerEpoch": 16,
        "learningRate": 0.01,
    }
    protocol = training(project, tomograms, one_class, **settings)
    project.launch(protocol, wait=False)
    wait_for_epoch(protocol, 1)
    kill(processes_of(protocol)[1])
    wait_for(lambda: project.again(protocol).isFailed(), "the protocol to notice")
    assert "Continue" in protocol.getErrorMessage()
    assert "epoch" in "\n".join(protocol.summary()).lower()

    protocol.patchSize.set(16)
    project.launch(protocol)
    message = project.again(protocol).getErrorMessage()
    assert "parameters.data.patch_size" in message, said(protocol)
    protocol.patchSize.set(32)

    # Masks of the same tilt series, but others.
    protocol.inputMasks.set(masks)
    protocol.inputMasks.setExtended("tomomasks")
    project.launch(protocol)
    message = project.again(protocol).getErrorMessage()
    assert "The masks are others" in message, said(protocol)
    assert "TS_01, TS_02" in message
    protocol.inputMasks.set(one_class)
    protocol.inputMasks.setExtended("tomomasks")

    project.launch(protocol, wait=False)
    wait_for_epoch(protocol, 3)
    project.scipion.stopProtocol(protocol)
    wait_for(lambda: not any(processes_of(protocol)), "all processes to end")

    project.launch(protocol, wait=False)
    project.finished(protocol)
    assert epochs_of(protocol) == list(range(1, 7))
    assert commands_of(protocol).count("training") == 3
    assert protocol.model.getClassNames() == {1: "protein"}

    lamellae = project.new(
        ProtCryosiamLamella,
        inputTomograms=(tomograms, "Tomograms"),
        modelSource=2,
        modelObject=(protocol, "model"),
    )
    assert lamellae._validate() == []


def test_stop_now_keeps_the_best(project, tomograms, masks):
    from cryosiam_plugin.protocols.training_progress import ask_to_stop, read_progress

    protocol = training(project, tomograms, masks, maxEpochs=1000, modelName="mine")
    project.launch(protocol, wait=False)
    wait_for_epoch(protocol, 1)
    assert read_progress(log_dir(protocol)).can_stop
    ask_to_stop(log_dir(protocol))
    project.finished(protocol, 120)
    assert protocol.model.getDisplayName() == "mine"
    assert protocol.model.getPath().endswith("/mine.ckpt")
    summary = "\n".join(protocol.summary())
    assert "stopped on request" in summary
    assert len(epochs_of(protocol)) < 1000


# ------------------------------------------------------------------ inputs that do not fit


def failure(project, protocol):
    project.launch(protocol)
    assert project.again(protocol).isFailed(), said(protocol)
    assert outputs_of(protocol) == []
    return protocol.getErrorMessage()


def test_labels_without_a_class_fail_early(project, tomograms, masks):
    message = failure(project, training(project, tomograms, masks, classNames="proteasome"))
    assert "has the labels 2" in message
    assert "INFO" not in message


def test_classes_without_voxels_fail_early(project, tomograms, masks):
    names = "proteasome, rubisco, microtubule"
    protocol = training(project, tomograms, masks, classNames=names)
    message = failure(project, protocol)
    assert "no voxel of: microtubule (3)" in message
    assert commands_of(protocol) == ["dry run"]


def test_sizes_and_grey_values_are_looked_at_before_the_engine(data, tomograms, masks):
    from tomo.objects import SetOfTomoMasks

    from cryosiam_plugin.protocols.training_inputs import (
        TrainingInputError,
        check_grey_values,
        pairs_of,
    )

    small = SetOfTomoMasks.create(str(data), template="small%s.sqlite")
    small.copyInfo(masks.tomomasks)
    for mask in masks.tomomasks.iterItems():
        path = data / "small" / f"{mask.getTsId()}.mrc"
        write(path, voxels(mask)[1:])
        other = mask.clone()
        other.setFileName(str(path))
        small.append(other)
    small.write()
    with pytest.raises(TrainingInputError, match="TS_01: the tomogram has 64 x 64 x 32 voxels"):
        pairs_of(tomograms.Tomograms, small)
    write(data / "raw.mrc", np.random.default_rng(0).standard_normal((3, 8, 8)).astype(np.float32))
    with pytest.raises(TrainingInputError, match="denoise tomograms"):
        check_grey_values(str(data / "raw.mrc"), "TS_01")
    check_grey_values(str(data / "tomograms" / "TS_01.mrc"), "TS_01")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"classNames": ""}, "do not say what their classes are called"),
        ({"classNames": "a,,b"}, "no class 2"),
        ({"patchSize": 40}, "multiple of 16"),
        ({"validationTsIds": "TS_01, TS_02"}, "none is left"),
        ({"validationTsIds": "TS_09"}, "TS_09"),
        ({"startFrom": 0, "modelSource": 1, "modelFile": "/none.ckpt"}, "/none.ckpt"),
    ],
)
def test_forms_that_cannot_be_run(project, tomograms, masks, parameters, words):
    problems = training(project, tomograms, masks, **parameters)._validate()
    assert len(problems) == 1
    assert words in problems[0]


def test_masks_of_another_voxel_size(project, tomograms, masks):
    protocol = training(project, tomograms, masks)
    protocol.inputMasks.get().setSamplingRate(2 * VOXEL_SIZE)
    (problem,) = protocol._validate()
    assert "26.96" in problem
    protocol.inputMasks.get().setSamplingRate(VOXEL_SIZE)


def test_all_of_the_form_is_understood_by_the_engine(
    project, tomograms, masks, engine_python, tmp_path
):
    from cryosiam_plugin.convert import write_run_config

    protocol = training(
        project,
        tomograms,
        masks,
        rotation=90,
        zoom=10,
        noise=0.2,
        lowPass=1.5,
        elastic=50,
        combine=True,
        optimizer=2,
        momentum=0.8,
        validationTsIds="TS_02",
        earlyStopping=0,
        predictDistances=True,
    )
    keys = protocol._configuration()
    transforms = keys["parameters"]["transforms"]
    assert transforms["rotate"] == pytest.approx(np.pi / 2, abs=1e-3)
    assert transforms["zoom"] == [0.9, 1.1]
    assert (transforms["noise_sigma_range"], transforms["elastic"]) == ([0, 0.2], [0, 50])
    assert keys["val_files"] == ["TS_02.mrc"]
    assert keys["hyper_parameters"]["momentum"] == 0.8
    assert keys["hyper_parameters"]["early_stopping"] is None
    assert keys["parameters"]["network"]["out_channels"] == 3
    assert keys["parameters"]["network"]["distance_prediction"]
    path = write_run_config(str(tmp_path / "run.yaml"), keys)
    code = "import sys; from cryosiam_engine.config.loading import load_config as load; "
    code += "print(load(sys.argv[1], 'semantic_train').transforms.rotate)"
    done = subprocess.run(
        [engine_python, "-I", "-c", code, path], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("(1.57"), done.stderr
