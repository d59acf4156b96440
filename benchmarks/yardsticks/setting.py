"""Where and how a run measures: device, repeats, shape, and whether the machine has instructions for bf16."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from .figure import Machine


@dataclass(frozen=True)
class Setting:
    """What every row is told: the device, the number of turns, the model's shape."""

    device: torch.device
    repeats: int
    shape: str

    @property
    def gpu(self) -> bool:
        """Whether this is a GPU."""
        return self.device.type == "cuda"

    @property
    def no_bf16(self) -> str | None:
        """Why bf16 is not measured, None where it is."""
        if self.gpu:
            there, whose = torch.cuda.is_bf16_supported(including_emulation=False), "GPU"
        else:
            there = any(has is True for name, has in torch.cpu.get_capabilities().items() if "bf16" in name)
            whose = "processor"
        return None if there else f"bf16 left out: this {whose} has no instructions for it"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """float32, and bfloat16 where the machine has it."""
        return (torch.float32,) if self.no_bf16 else (torch.float32, torch.bfloat16)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of a row that measures both."""
        return (self.no_bf16,) if self.no_bf16 else ()

    def machine(self) -> Machine:
        """What the ratios depend on, and the versions."""
        return {
            "device": torch.cuda.get_device_name(self.device) if self.gpu else "cpu",
            "processor": _processor(),
            "threads": torch.get_num_threads(),
            "shape": self.shape,
            "repeats": self.repeats,
            "torch": str(torch.__version__),
            "transformers": version("transformers"),
        }


def short(dtype: torch.dtype) -> str:
    """The name of a dtype as the tables say it."""
    return {torch.float32: "float32", torch.bfloat16: "bf16"}[dtype]


def assets() -> Path | None:
    """The folder of the real model and data, None where there is none."""
    folder = os.environ.get("SKILLNEURONS_ASSETS")
    return Path(folder) if folder else None


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in facts.items()}
    if "model name" not in found:
        return platform.processor() or platform.machine()
    return (
        "{model name}, family {cpu family}, model {model}".format(**found) if "model" in found else found["model name"]
    )
