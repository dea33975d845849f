"""The ONNX project's own tests of backends, on the GPU."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.large]


def test_onnxs_tests_of_fastnns_operators_pass() -> None:
    pytest.importorskip("onnx")
    from tests import onnx_suite

    failed = {}
    names = onnx_suite.run_cases()
    for name in names:
        try:
            onnx_suite.cases()[name].run()
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    assert not failed, "\n\n".join(f"{name}: {text}" for name, text in failed.items())
    assert len(names) >= 310
