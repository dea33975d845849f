"""Whether a GPU can be used here."""

from __future__ import annotations

_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # of cudaError_t
_INSTALL = "pip install 'fastnn-kernels[cuda13x]' (driver of CUDA 12: [cuda12x])"


def why_not() -> str | None:
    """Why CuPy cannot work here, and what to do; None if it can. Asks the driver, so it initialises CUDA."""
    try:
        import cupy
    except Exception as error:  # a broken installation raises whatever it likes
        return f"CuPy does not import ({error}): {_INSTALL}"
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status == _INSUFFICIENT_DRIVER:
            return f"there is no NVIDIA driver, or it is too old for this CuPy: update it, or {_INSTALL}"
        if error.status != _NO_DEVICE:
            return f"CUDA does not start: {error}"
        count = 0
    if count == 0:
        return "the driver shows no CUDA device (CUDA_VISIBLE_DEVICES may hide it)"
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except Exception as error:
        return f"NVRTC, which compiles the kernels, cannot be loaded ({error}): {_INSTALL}"
    return None
