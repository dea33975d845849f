"""Whether products of float32 are made on tensor cores: see :func:`fastnn.set_float32_precision`."""

from __future__ import annotations

import numpy as np

PRECISIONS = ("highest", "high")
float32_precision = "highest"


def stem_for(stem: str, dtype: np.dtype) -> str:
    """Which ``.cu`` file has the products of `stem`: ``<stem>.cu`` or ``<stem>_tf32.cu``."""
    return f"{stem}_tf32" if float32_precision == "high" and dtype == np.float32 else stem
