"""How many CPUs this process may keep busy: those of its affinity, as far as its cgroup pays for them.

A container with a quota of one CPU on a machine of 64 sees all 64. Threads for each of them would use the
quota up within a fraction of every period, and then stand still, all of them, until the next.

Source: cgroups(7); cgroup v2, "cpu.max" (quota and period in microseconds); cgroup v1, "cpu.cfs_quota_us".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def available(root: Path = Path("/")) -> int:
    """CPUs for this process, at least 1; `root`: where /proc and /sys are."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *(int(share) for share in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The CPUs that each quota above this process pays for."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        files: tuple[str, ...]
        if controllers == "":
            top, files = mounted, ("cpu.max",)
        elif "cpu" in controllers.split(","):
            top, files = mounted / controllers, ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            top = top if top.is_dir() else mounted / "cpu"
        else:
            continue
        # A namespace hides what lies above its mount, though the path may speak of it: only the top is there.
        own = top / path.lstrip("/")
        for folder in (own, *own.parents):
            try:
                quota, period = " ".join((folder / file).read_text() for file in files).split()
                if float(quota) > 0:  # v1 says -1, v2 "max", where there is none
                    yield float(quota) / float(period)
            except (OSError, ValueError):
                pass
            if folder == top:
                break
