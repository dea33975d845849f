"""The reference room: what each operation does, in plain NumPy.

The contract of all three rooms (signatures, formulas, shapes), the oracle of the tests, the baseline of the
benchmarks. The rules:

* Arguments are positional and already validated by ``fastnn.functional``: float32 or float64 throughout, one
  dtype a call, integer pairs as tuples, shapes that fit. Arrays may have any strides, be read-only, or hold
  no elements.
* Results are fresh arrays of the dtype of the input. Nothing is written to but the ``out`` buffers, a
  training batch norm's running statistics, and the parameters that :mod:`~fastnn.kernels.reference.update` is
  there to update.
* 4-D results of ``conv``, ``pool`` and ``norm`` are channels-last: an (N, C, H, W) view of (N, H, W, C)
  memory. Elementwise results keep the memory order of the array they follow.
* NaN and infinities go through as IEEE arithmetic has them, and without a warning: every kernel is ``quiet``.
* Vectorised over everything but the taps of a kernel window; matrix products go to BLAS; float32 stays
  float32, but for long sums that only a float64 accumulator gets right.
"""
