"""As ``tests/test_determinism.py``, for large networks in processes of their own: kernels compiled and kept,
loaded, and compiled with no cache at all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_determinism import digest_of_another_process
from tests.trained import digest


@pytest.mark.parametrize("network", ["every_layer", "lenet"])
def test_weights_are_the_same_with_a_cold_cache_a_warm_one_and_none(network: str, tmp_path: Path) -> None:
    no_folder = tmp_path / "a file"
    no_folder.touch()
    cold = digest_of_another_process(network, tmp_path / "cache")
    warm = digest_of_another_process(network, tmp_path / "cache")
    none = digest_of_another_process(network, no_folder)
    assert cold == warm == none == digest(network)
