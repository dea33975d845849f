"""On what a result was measured: versions, processor, threads."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import fastnn
from fastnn.backend import get_backend, get_num_threads


def versions(packages: tuple[str, ...] = ("numpy", "numba", "llvmlite")) -> dict[str, str]:
    """The versions of Python, fastnn and those of `packages` that are installed."""
    found = {"python": platform.python_version(), "fastnn": fastnn.__version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The processor, and how many of it this process may use."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"processor": _processor(), "cpus": cpus, "system": f"{platform.system()} {platform.machine()}"}


def environment() -> dict[str, Any]:
    """What a reader of a result needs in order to judge its wall time."""
    backend = get_backend()
    return {
        "backend": backend.name,
        "threads": get_num_threads() if backend.name == "numba" else None,
        "versions": versions(),
        "machine": machine(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("model name", "Model"):
                return value.strip()
    return platform.processor() or "unknown"
