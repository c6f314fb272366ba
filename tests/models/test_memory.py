"""Memory of devices of every kind: when it ran out, how much is free, and giving it back."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from clora.models import memory
from clora.models.memory import free_bytes, give_back, is_out_of_memory, peak_bytes, reset_peak
from tests import accelerator

WORDS = {
    "CUDA": "CUDA out of memory. Tried to allocate 2.00 GiB.",
    "CUDA, later": "CUDA error: out of memory",
    "cuBLAS": "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "MPS": "MPS backend out of memory (MPS allocated: 8.13 GB, other allocations: 700.00 MB, max allowed: 9.07 GB).",
    "MPS, one tensor": "Invalid buffer size: 16.88 GiB",
    "XPU": "XPU out of memory. Tried to allocate 1.50 GiB.",
    "XPU, Level Zero": "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
    "XPU, older": "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES)",
    "DirectML": "Could not allocate tensor with 536870912 bytes. There is not enough GPU video memory available!",
    "CPU": "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory",
    "CPU, Windows": "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to "
    "allocate 4096 bytes.",
}  # fmt: skip


@pytest.mark.parametrize("device", WORDS)
def test_every_device_says_it_in_its_own_words(device: str) -> None:
    assert is_out_of_memory(RuntimeError(WORDS[device]))


def test_exceptions_that_say_it_by_their_class() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError())
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(RuntimeError("Invalid buffer: the size does not match"))


def test_a_torch_of_the_webuis_has_the_class_for_cuda_only() -> None:
    """AUTOMATIC1111 has torch 2.1, whose main module does not know it."""
    code = (
        "import torch; del torch.OutOfMemoryError\n"
        "from clora.models.memory import is_out_of_memory\n"
        "assert is_out_of_memory(torch.cuda.OutOfMemoryError()) and not is_out_of_memory(ValueError())"
    )
    run_python(code)


def run_python(code: str) -> None:
    import subprocess
    import sys
    from pathlib import Path

    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=True, timeout=120)


@accelerator.needs_accelerator
def test_free_memory_is_asked_of_the_device_that_is_there() -> None:
    device = accelerator.device()
    with accelerator.limited(1000):
        assert free_bytes(device) == 1000
        held = torch.zeros(100, dtype=torch.float16, device=device)
        assert free_bytes(device) == 800
    del held
    assert free_bytes(torch.device("cpu")) is None
    assert free_bytes(torch.device("meta")) is None


class Asked(SimpleNamespace):
    """The module of a device."""

    emptied = 0

    def is_available(self) -> bool:
        return True

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def mps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    module = Asked(recommended_max_memory=lambda: 900, current_allocated_memory=lambda: 250)
    monkeypatch.setattr(torch, "mps", module)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    return module


@pytest.fixture
def xpu(monkeypatch: pytest.MonkeyPatch) -> Asked:
    def refuse(_: object) -> None:
        raise RuntimeError("The device does not support querying the available free memory.")

    module = Asked(
        mem_get_info=lambda _: (300, 900), memory_reserved=lambda _: 200, memory_allocated=lambda _: 50, refuse=refuse
    )
    monkeypatch.setattr(torch, "xpu", module)
    return module


def test_apples_device_says_its_limit(mps: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(torch.device("mps")) == 650
    monkeypatch.delattr(mps, "recommended_max_memory")  # torch before 2.5
    assert free_bytes(torch.device("mps")) is None


def test_intels_device_may_not_say_it(xpu: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(torch.device("xpu")) == 450
    monkeypatch.setattr(xpu, "mem_get_info", xpu.refuse)
    assert free_bytes(torch.device("xpu")) is None


def test_memory_is_given_back_on_every_device_that_is_there(mps: Asked, xpu: Asked) -> None:
    give_back()
    assert (mps.emptied, xpu.emptied) == (1, 1)


@accelerator.needs_accelerator
def test_an_accelerator_that_torch_knows_by_another_name_gives_it_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[int] = []
    monkeypatch.setattr(accelerator.DEVICE, "empty_cache", lambda: emptied.append(1))
    give_back()
    assert emptied == [1]


@accelerator.needs_accelerator
def test_the_peak_is_that_since_the_last_reset() -> None:
    device = accelerator.device()
    reset_peak(device)
    before = memory.peak_bytes(device)
    assert before is not None
    torch.zeros(1000, dtype=torch.uint8, device=device)
    assert peak_bytes(device) == before + 1000
    reset_peak(torch.device("cpu"))
    assert peak_bytes(torch.device("cpu")) is None
