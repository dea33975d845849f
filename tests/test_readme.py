"""README.md tells the truth: its Python runs from top to bottom, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(code: str, cwd: Path) -> str:
    """What a fresh process prints that runs `code` in an empty folder."""
    pytest.importorskip("sklearn")
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + code
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_readme_python_runs_from_top_to_bottom(tmp_path: Path) -> None:
    printed = run("\n".join(PYTHON), tmp_path)
    accuracy = re.search(r"test accuracy ([\d.]+) %", printed)
    assert accuracy
    assert float(accuracy[1]) > 90


def test_readme_network_by_hand_learns_the_same_on_fastnn(tmp_path: Path) -> None:
    classes, loop, imports = PYTHON[1:4]
    report = "\nprint(f'{Linear.__module__} {accuracy:.3f}')\n"
    for layers, module in ((classes, "__main__"), (imports + "import numpy as np\n", "fastnn.layers")):
        name, accuracy = run(layers + loop + report, tmp_path).split()[-2:]
        assert name.startswith(module)
        assert float(accuracy) > 0.9


def test_readme_names_only_targets_that_make_has() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in ("README.md", "CONTRIBUTING.md", "docs/gpu.md", "docs/trust.md"):
        named = re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert named
        assert set(named) <= targets


def test_readme_links_lead_somewhere() -> None:
    for file in (
        "README.md",
        "CONTRIBUTING.md",
        *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
    ):
        for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / file).read_text(encoding="utf-8")):
            assert "://" in link or (ROOT / file).parent.joinpath(link).exists(), (file, link)


def test_every_test_that_trust_md_names_is_there() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs/trust.md").read_text(encoding="utf-8")
    )
    assert len(named) > 30
    for file, function in named:
        assert f"def {function}" in (ROOT / file).read_text(encoding="utf-8"), (file, function)
