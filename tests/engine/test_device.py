from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from cryosiam_engine.device import (
    Precision,
    SelfCheck,
    apply_precision,
    choose_device,
    cpu_threads,
    free_memory,
    host,
    is_out_of_memory,
    known_bad,
    missing_gpu,
    precision,
    resolve_precision,
    self_check,
    set_threads,
    unsupported_architecture,
)
from cryosiam_engine.device import convolution_check as check_module
from cryosiam_engine.errors import ConfigurationError, DeviceError
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

CPU = torch.device("cpu")
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "compute_90"]

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
# Where PyTorch sees no GPU, its branches are entered by replacing the functions that ask CUDA,
# and only those; what a real GPU computes is tested by the tests marked gpu.
FakeGpus = Callable[..., None]


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    """Let PyTorch report GPUs of these compute capabilities."""

    def install(*capabilities: tuple[int, int], built_for: list[str] = WHEEL) -> None:
        def capability(which: object = None) -> tuple[int, int]:
            index = which.index if isinstance(which, torch.device) else which
            return capabilities[index or 0]

        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built_for)
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91501)
        monkeypatch.setattr(torch, "__version__", "2.10.0+cu128")

    return install


@pytest.fixture
def cuda_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a PyTorch with CUDA see no GPU and give this reason when it is started."""

    def install(message: str) -> None:
        def start() -> None:
            raise RuntimeError(message)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "init", start)

    return install


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Answer the numerical check of a GPU that is not there: mode -> passed."""
    answers: dict[str, bool] = {}

    def check(device: torch.device, dtype: torch.dtype) -> SelfCheck:
        mode = str(dtype).removeprefix("torch.")
        if dtype == torch.float32:
            mode = "tf32" if torch.backends.cudnn.allow_tf32 else "strict"
        return SelfCheck(answers[mode], 1.0, 0.5, 0.1, "7^3 stride 1")

    monkeypatch.setattr(precision, "self_check", check)
    return answers


@pytest.fixture(autouse=True)
def _keep_flags() -> object:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    threads = torch.get_num_threads()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
    torch.set_num_threads(threads)


class TestChooseDevice:
    def test_cpu_needs_no_gpu_and_warns_of_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        assert choose_device("cpu") == CPU
        assert not caplog.records

    @pytest.mark.parametrize("word", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU", "cpu:0", "0"])
    def test_unknown_words_are_refused(self, word: str) -> None:
        with pytest.raises(ConfigurationError, match="Unknown device") as caught:
            choose_device(word)
        assert "'auto'" in caught.value.remedy

    @given(st.text(max_size=8))
    def test_any_text_gives_a_device_or_an_error_with_remedy(self, text: str) -> None:
        try:
            assert choose_device(text).type in ("cpu", "cuda")
        except (ConfigurationError, DeviceError) as error:
            assert error.remedy

    @pytest.mark.skipif(torch.backends.cuda.is_built(), reason="this PyTorch has CUDA")
    def test_auto_without_cuda_is_loud(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            assert choose_device("auto") == CPU
        (record,) = caplog.records
        assert "built without CUDA" in record.getMessage()
        assert "50 to 100 times" in record.getMessage()

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("No CUDA GPUs are available", "sees no GPU (CUDA_VISIBLE_DEVICES is '7')"),
            ("Found no NVIDIA driver on your system. Please check", "no NVIDIA driver"),
            (
                "The NVIDIA driver on your system is too old (found version 11040). Please",
                "driver is too old for this PyTorch's CUDA 12.8 (it supports CUDA 11.4)",
            ),
            ("CUDA unknown error - this may be due to", "CUDA unknown error"),
        ],
    )
    def test_the_reason_is_told(
        self,
        said: str,
        told: str,
        cuda_says: Callable[[str], None],
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        cuda_says(said)
        missing = missing_gpu()
        assert missing is not None
        assert missing.remedy
        assert choose_device("auto") == CPU
        assert told in caplog.text
        with pytest.raises(DeviceError) as caught:
            choose_device("cuda")
        assert told in caught.value.message
        assert "'cpu'" in caught.value.remedy

    def test_gpus_are_chosen_by_number(self, fake_gpus: FakeGpus) -> None:
        fake_gpus((9, 0), (8, 6))
        assert choose_device("auto") == torch.device("cuda", 0)
        assert choose_device("cuda") == torch.device("cuda", 0)
        assert choose_device("cuda:1") == torch.device("cuda", 1)

    def test_an_absent_gpu_is_refused_with_those_present(self, fake_gpus: FakeGpus) -> None:
        fake_gpus((9, 0), (8, 6))
        with pytest.raises(DeviceError, match="cuda:0, cuda:1"):
            choose_device("cuda:7")

    @pytest.mark.parametrize("request_", ["auto", "cuda", "cuda:0"])
    def test_an_unsupported_gpu_is_named(self, fake_gpus: FakeGpus, request_: str) -> None:
        fake_gpus((6, 1))
        with pytest.raises(DeviceError, match=r"sm_61.*sm_75") as caught:
            choose_device(request_)
        assert "PyTorch" in caught.value.remedy

    def test_auto_passes_over_an_unsupported_gpu(self, fake_gpus: FakeGpus) -> None:
        fake_gpus((6, 1), (8, 0))
        assert choose_device("auto") == torch.device("cuda", 1)
        with pytest.raises(DeviceError):
            choose_device("cuda:0")

    def test_the_scheduler_keeps_its_gpus(
        self, fake_gpus: FakeGpus, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
        fake_gpus((9, 0))
        choose_device("cuda:0")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


class TestArchitecture:
    @pytest.mark.parametrize(
        ("capability", "built_for", "fits"),
        [
            ((8, 0), ["sm_80"], True),
            ((8, 9), ["sm_80"], True),
            ((8, 0), ["sm_86"], False),
            ((9, 0), ["sm_80"], False),
            ((9, 0), ["sm_80", "compute_80"], True),
            ((12, 0), ["sm_90", "compute_90"], True),
            ((8, 0), ["compute_90"], False),
            ((9, 0), ["sm_90a"], True),
            ((10, 0), ["compute_90a"], False),
            ((10, 3), ["sm_100f"], True),
            ((12, 0), ["sm_100f"], False),
            ((12, 1), ["sm_120"], True),
            ((9, 0), [], True),
        ],
    )
    def test_code_runs_where_cuda_says(
        self,
        fake_gpus: FakeGpus,
        capability: tuple[int, int],
        built_for: list[str],
        fits: bool,
    ) -> None:
        fake_gpus(capability, built_for=built_for)
        assert (unsupported_architecture(0) is None) is fits


class TestPrecision:
    @pytest.mark.parametrize("word", ["auto", "fp32", Precision.AUTO, Precision.FP32])
    def test_the_cpu_computes_in_float32(self, word: str) -> None:
        resolved = resolve_precision(word, CPU)
        assert (resolved.name, resolved.dtype) == ("fp32", torch.float32)

    def test_bf16_is_allowed_on_the_cpu(self) -> None:
        resolved = resolve_precision("bf16", CPU)
        assert (resolved.name, resolved.dtype) == ("bf16", torch.bfloat16)

    def test_fp16_is_refused_on_the_cpu(self) -> None:
        with pytest.raises(ConfigurationError, match="CPU"):
            resolve_precision("fp16", CPU)

    def test_unknown_words_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="half") as caught:
            resolve_precision("half", CPU)
        assert "'bf16'" in caught.value.remedy

    @pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "tf32"])
    def test_tf32_is_on_for_tf32_only(self, name: str) -> None:
        torch.backends.cudnn.allow_tf32 = name != "tf32"
        apply_precision(precision.ResolvedPrecision(name, torch.float32, ""))
        assert torch.backends.cudnn.allow_tf32 is (name == "tf32")
        assert torch.backends.cuda.matmul.allow_tf32 is False

    @pytest.mark.parametrize("before", [True, False])
    def test_checking_leaves_the_switches(self, before: bool, verdicts: dict[str, bool]) -> None:
        torch.backends.cudnn.allow_tf32 = before
        verdicts["tf32"] = True
        assert precision.check_precision(precision._TF32, CPU).passed
        assert torch.backends.cudnn.allow_tf32 is before

    def test_auto_is_tf32_from_ampere_on(
        self, fake_gpus: FakeGpus, verdicts: dict[str, bool]
    ) -> None:
        fake_gpus((8, 0), (7, 5))
        verdicts["tf32"] = True
        assert resolve_precision("auto", torch.device("cuda", 0)).name == "tf32"
        assert resolve_precision("auto", torch.device("cuda", 1)).name == "fp32"
        assert resolve_precision("fp32", torch.device("cuda", 0)).name == "fp32"

    def test_auto_falls_back_to_float32_loudly(
        self,
        fake_gpus: FakeGpus,
        verdicts: dict[str, bool],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        fake_gpus((9, 0))
        verdicts.update(tf32=False, strict=True)
        assert resolve_precision("auto", torch.device("cuda", 0)).name == "fp32"
        assert "TF32 failed" in caplog.text
        verdicts.update(strict=False)
        with pytest.raises(DeviceError, match="failed the numerical check"):
            resolve_precision("auto", torch.device("cuda", 0))

    @pytest.mark.parametrize(
        ("word", "capability", "allowed"),
        [
            ("bf16", (8, 0), True),
            ("bf16", (7, 5), False),
            ("fp16", (7, 0), True),
            ("fp16", (6, 1), False),
        ],
    )
    def test_16_bits_need_their_tensor_cores(
        self,
        fake_gpus: FakeGpus,
        verdicts: dict[str, bool],
        word: str,
        capability: tuple[int, int],
        allowed: bool,
    ) -> None:
        fake_gpus(capability)
        verdicts.update(bfloat16=True, float16=True)
        if allowed:
            assert resolve_precision(word, torch.device("cuda", 0)).name == word
        else:
            with pytest.raises(DeviceError, match="compute capability") as caught:
                resolve_precision(word, torch.device("cuda", 0))
            assert "'fp32'" in caught.value.remedy

    def test_16_bits_that_compute_wrong_are_refused(
        self, fake_gpus: FakeGpus, verdicts: dict[str, bool]
    ) -> None:
        fake_gpus((9, 0))
        verdicts["bfloat16"] = False
        with pytest.raises(DeviceError, match=r"numerical check of bf16.*7\^3"):
            resolve_precision("bf16", torch.device("cuda", 0))

    def test_16_bits_known_bad_are_refused_though_the_check_passes(
        self, fake_gpus: FakeGpus, verdicts: dict[str, bool], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_gpus((9, 0))
        verdicts["bfloat16"] = True
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
        with pytest.raises(DeviceError, match=r"cuDNN 9\.10\.2"):
            resolve_precision("bf16", torch.device("cuda", 0))


class TestKnownBad:
    @pytest.mark.parametrize("torch_version", ["2.8.0+cu128", "2.9.0", "2.9.1+cu130"])
    @pytest.mark.parametrize(("cudnn", "text"), [(90800, "9.8.0"), (91002, "9.10.2")])
    def test_wrong_bf16_is_named(self, torch_version: str, cudnn: int, text: str) -> None:
        fault = known_bad(torch_version, cudnn)
        assert fault is not None
        assert f"PyTorch {torch_version} with cuDNN {text}" in fault
        assert "bf16" in fault

    @pytest.mark.parametrize(
        ("torch_version", "cudnn"),
        [
            ("2.6.0", 90100),
            ("2.7.1", 90701),
            ("2.9.1", 91501),
            ("2.10.0+cu128", 91501),
            ("2.13.0", 92000),
            ("2.5.1", 8907),
            ("2.9.1+cpu", None),
            ("unknown", 91002),
        ],
    )
    def test_others_are_not(self, torch_version: str, cudnn: int | None) -> None:
        assert known_bad(torch_version, cudnn) is None

    def test_the_tf32_fault_is_named_until_pytorch_avoids_it(self) -> None:
        assert "TF32" in (known_bad("2.8.0", 91002) or "")
        assert "TF32" in (known_bad("2.9.0", 91500) or "")
        assert "TF32" not in (known_bad("2.9.1", 91002) or "")
        assert "TF32" not in (known_bad("2.8.0", 90800) or "")

    @pytest.mark.parametrize(("number", "text"), [(91002, "9.10.2"), (8907, "8.9.7")])
    def test_version_numbers_are_written_out(self, number: int, text: str) -> None:
        assert precision.cudnn_text(number) == text


class TestSelfCheck:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_this_cpu_convolves_right(self, dtype: torch.dtype) -> None:
        found = self_check(CPU, dtype)
        assert found.passed, found.detail
        assert 0 < found.relative_error <= found.tolerance
        assert found.max_error > 0

    def test_it_is_repeatable(self) -> None:
        assert self_check(CPU, torch.float32) == self_check(CPU, torch.float32)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda result: result * 1.05,
            lambda result: result.roll(1, dims=-1),
            lambda result: result.flip(1),
            lambda result: torch.zeros_like(result),
            lambda result: result.masked_fill(result == result.max(), float("nan")),
        ],
        ids=["scaled", "shifted", "channels swapped", "zeros", "one nan"],
    )
    def test_wrong_convolutions_are_found(
        self, spoil: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = check_module._convolve

        def wrong(volume: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
            return spoil(right(volume, weight, stride=stride, padding=padding))

        monkeypatch.setattr(check_module, "_convolve", wrong)
        # The coarsest arithmetic has the widest tolerance; even that must not hide these.
        assert not self_check(CPU, torch.bfloat16).passed

    def test_a_fault_in_one_layout_of_one_shape_is_found_and_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = check_module._convolve

        def wrong(volume: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
            result = right(volume, weight, stride=stride, padding=padding)
            last = volume.is_contiguous(memory_format=torch.channels_last_3d)
            return result + 0.1 if stride == 2 and last else result

        monkeypatch.setattr(check_module, "_convolve", wrong)
        found = self_check(CPU, torch.float32)
        assert not found.passed
        assert "stride 2" in found.detail
        assert "channels_last_3d" in found.detail

    def test_float32_that_is_really_lower_precision_is_found(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tf32(tensor: Tensor) -> Tensor:
            # TF32 keeps 10 of the 23 bits of the mantissa.
            return (tensor.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)

        def rounded(volume: Tensor, weight: Tensor, *, stride: int, padding: int) -> Tensor:
            return functional.conv3d(tf32(volume), tf32(weight), stride=stride, padding=padding)

        monkeypatch.setattr(check_module, "_convolve", rounded)
        found = self_check(CPU, torch.float32)
        assert not found.passed
        # ... while the same error is within what TF32 is allowed.
        assert found.relative_error < check_module._TF32_TOLERANCE

    def test_a_device_that_raises_fails_the_check(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> Tensor:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED\nat line 5")

        monkeypatch.setattr(check_module, "_convolve", broken)
        found = self_check(CPU, torch.float32)
        assert not found.passed
        assert found.detail == "CUDNN_STATUS_EXECUTION_FAILED"

    @pytest.mark.parametrize(("edge", "kernel", "stride"), [(12, 7, 1), (12, 3, 2), (13, 3, 2)])
    def test_reference_blocks_are_the_whole_convolution(
        self, edge: int, kernel: int, stride: int
    ) -> None:
        volume = torch.randn(1, 2, edge, edge, edge, dtype=torch.float64)
        weight = torch.randn(3, 2, kernel, kernel, kernel, dtype=torch.float64)
        whole = functional.conv3d(volume, weight, stride=stride, padding=kernel // 2)
        blocks = check_module._reference_blocks(volume, weight, stride)
        starts = [start for start, _ in blocks]
        assert starts[0] == 0
        assert starts[-1] + blocks[-1][1].shape[-1] == whole.shape[-1]
        for start, block in blocks:
            cut = slice(start, start + block.shape[-1])
            torch.testing.assert_close(block, whole[..., cut, cut, cut])


class TestOutOfMemory:
    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            torch.cuda.OutOfMemoryError("x"),
            MemoryError(),
            RuntimeError("CUDA error: out of memory"),
            RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if"),
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            RuntimeError("GET was unable to find an engine to execute this computation"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
        ],
    )
    def test_it_is_recognised(self, error: BaseException) -> None:
        assert is_out_of_memory(error)

    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError("Expected 5-dimensional input"),
            RuntimeError("CUDA error: an illegal memory access was encountered"),
            ValueError("out of memory"),
            KeyboardInterrupt("out of memory"),
            DeviceError("The GPU is out of memory even for the smallest tile."),
        ],
    )
    def test_others_are_not(self, error: BaseException) -> None:
        assert not is_out_of_memory(error)

    def test_what_this_pytorch_really_raises(self) -> None:
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**60, dtype=torch.uint8)
        assert is_out_of_memory(caught.value)


@pytest.fixture
def control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lay out control groups: membership line(s), then files by path below the root."""
    for variable in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def install(membership: str, files: dict[str, str] | None = None) -> None:
        root = tmp_path / "cgroup"
        for name, text in (files or {}).items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text + "\n")
        (tmp_path / "self").write_text(membership + "\n")
        monkeypatch.setattr(host, "_CGROUP_ROOT", root)
        monkeypatch.setattr(host, "_CGROUP_MEMBERSHIP", tmp_path / "self")

    return install


MEBIBYTE = 2**20


class TestHostMemory:
    def test_without_limits_it_is_what_the_computer_has(
        self, control_groups: Callable[..., None]
    ) -> None:
        control_groups("0::/")
        available = psutil.virtual_memory().available
        assert free_memory(CPU) == pytest.approx(available, rel=0.2)

    def test_version_2_counts_usage_without_cache_and_outer_groups(
        self, control_groups: Callable[..., None]
    ) -> None:
        inner = {
            "job/step/memory.max": str(50 * MEBIBYTE),
            "job/step/memory.current": str(40 * MEBIBYTE),
            "job/step/memory.stat": f"anon 5\ninactive_file {30 * MEBIBYTE}",
        }
        control_groups("0::/job/step", inner)
        assert free_memory(CPU) == 40 * MEBIBYTE
        outer = {
            "job/memory.max": str(20 * MEBIBYTE),
            "job/memory.current": str(15 * MEBIBYTE),
        }
        control_groups("0::/job/step", outer)
        assert free_memory(CPU) == 5 * MEBIBYTE

    def test_version_2_without_limit(self, control_groups: Callable[..., None]) -> None:
        control_groups("0::/job", {"job/memory.max": "max", "job/memory.current": "7"})
        assert free_memory(CPU) > 100 * MEBIBYTE

    @pytest.mark.parametrize("folder", ["memory/docker/abc", "memory"])
    def test_version_1_inside_and_outside_a_container(
        self, control_groups: Callable[..., None], folder: str
    ) -> None:
        files = {
            f"{folder}/memory.limit_in_bytes": str(64 * MEBIBYTE),
            f"{folder}/memory.usage_in_bytes": str(60 * MEBIBYTE),
            f"{folder}/memory.stat": f"total_inactive_file {8 * MEBIBYTE}",
        }
        control_groups("9:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/", files)
        assert free_memory(CPU) == 12 * MEBIBYTE

    def test_nothing_left_is_zero(self, control_groups: Callable[..., None]) -> None:
        control_groups("0::/", {"memory.max": "10", "memory.current": "50"})
        assert free_memory(CPU) == 0

    @pytest.mark.parametrize(
        "variables",
        [
            {"SLURM_MEM_PER_NODE": "2000"},
            {"SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_ON_NODE": "4"},
        ],
    )
    def test_slurm_counts_what_this_process_holds(
        self,
        control_groups: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        variables: dict[str, str],
    ) -> None:
        control_groups("0::/")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        # 2000 MiB are less than the machines these tests run on have.
        granted = 2000 * MEBIBYTE
        assert 0 < free_memory(CPU) < granted
        own = psutil.Process().memory_info().rss
        assert free_memory(CPU) == pytest.approx(granted - own, abs=64 * MEBIBYTE)

    def test_slurm_zero_is_no_limit(
        self, control_groups: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        control_groups("0::/")
        monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")
        assert free_memory(CPU) > 0


class TestThreads:
    def test_it_is_never_more_than_the_cores_of_this_process(self) -> None:
        assert 1 <= cpu_threads() <= (psutil.cpu_count() or 1)

    @pytest.mark.parametrize("variable", ["SLURM_CPUS_PER_TASK", "OMP_NUM_THREADS"])
    def test_the_environment_can_lower_it(
        self,
        control_groups: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        control_groups("0::/")
        unlimited = cpu_threads()
        for value, expected in (("1", 1), ("9999", unlimited), ("many", unlimited)):
            monkeypatch.setenv(variable, value)
            assert cpu_threads() == expected

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"job/cpu.max": "250000 100000"}, 3),
            ({"job/cpu.max": "50000 100000"}, 1),
            ({"cpu/job/cpu.cfs_quota_us": "200000", "cpu/job/cpu.cfs_period_us": "100000"}, 2),
            ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
            ({"job/cpu.max": "max 100000"}, 8),
        ],
    )
    def test_quotas_are_rounded_up(
        self,
        control_groups: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        files: dict[str, str],
        expected: int,
    ) -> None:
        control_groups("2:cpu,cpuacct:/job\n0::/job", files)
        monkeypatch.setattr(host.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
        assert cpu_threads() == expected

    def test_pytorch_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
        assert set_threads() == 1
        assert torch.get_num_threads() == 1


@pytest.mark.gpu
@needs_gpu
class TestRealGpu:
    def test_auto_takes_it(self) -> None:
        chosen = choose_device("auto")
        assert chosen.type == "cuda"
        assert torch.zeros(3, device=chosen).sum().item() == 0

    def test_an_absent_one_is_refused(self) -> None:
        with pytest.raises(DeviceError):
            choose_device("cuda:99")

    @pytest.mark.parametrize("word", ["auto", "fp32", "bf16", "fp16"])
    def test_every_precision_is_right_or_refused(self, word: str) -> None:
        chosen = choose_device("auto")
        try:
            resolved = resolve_precision(word, chosen)
        except DeviceError as error:
            assert word in ("bf16", "fp16")
            assert error.remedy
            return
        assert precision.check_precision(resolved, chosen).passed

    def test_strict_float32_is_strict(self) -> None:
        chosen = choose_device("auto")
        apply_precision(resolve_precision("fp32", chosen))
        assert self_check(chosen, torch.float32).tolerance < check_module._TF32_TOLERANCE

    def test_memory_held_for_reuse_is_free(self) -> None:
        chosen = choose_device("auto")
        before = free_memory(chosen)
        block = torch.empty(256 * MEBIBYTE, dtype=torch.uint8, device=chosen)
        during = free_memory(chosen)
        del block
        assert during <= before - 250 * MEBIBYTE
        assert free_memory(chosen) >= before - 16 * MEBIBYTE

    def test_running_out_is_recognised(self) -> None:
        chosen = choose_device("auto")
        with pytest.raises(RuntimeError) as caught:
            torch.empty(2**50, dtype=torch.uint8, device=chosen)
        assert is_out_of_memory(caught.value)
