from __future__ import annotations

import sys
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import get_args

import onnxruntime
import pytest

from yolox_deploy import doctor
from yolox_deploy.export import Target

Run = Callable[..., "CompletedProcess[str]"]


def test_every_target_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(backend.target for backend in doctor.BACKENDS) == get_args(Target)
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert f"onnxruntime {onnxruntime.__version__}" in printed
    assert "CPUExecutionProvider" in printed
    assert f"Python {sys.version.split()[0]}" in printed
    assert all(f"\n{target}\n" in printed for target in get_args(Target))


def test_what_is_missing_comes_with_its_pip_line(run_without: Run) -> None:
    done = run_without(["ncnn", "nncf", "torch", "tensorrt_rtx"], "doctor")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "to run: pip install ncnn" in lines
    assert "to run: pip install tensorrt-rtx-cu13" in lines
    assert "to write: pip install torch nncf" in lines
    assert "to write: pip install torch" in lines


def test_a_broken_backend_does_not_hide_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> str:
        raise OSError("libcuda.so.1 is missing")

    broken = doctor.Backend("onnx", ("onnxruntime",), (), fail)
    monkeypatch.setattr(doctor, "BACKENDS", (broken, *doctor.BACKENDS[1:]))
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert "BROKEN: OSError: libcuda.so.1 is missing" in printed
    assert "\nncnn\n" in printed


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from runtimes.errors import MissingBackend

    def none() -> None:
        raise MissingBackend("there is no CUDA GPU here")

    monkeypatch.setattr(doctor, "find_gpu", none)
    assert doctor.gpu("tensorrt_rtx") == "does not run here: there is no CUDA GPU here"
