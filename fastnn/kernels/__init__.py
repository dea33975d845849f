"""The import path of ``kernels/``: a checkout has the rooms at ``<root>/kernels``, a wheel beside this."""

from pathlib import Path

_root = Path(__file__).resolve().parents[2]
if not (Path(__file__).parent / "cpu").is_dir() and (_root / "pyproject.toml").is_file():
    __path__.append(str(_root / "kernels"))
