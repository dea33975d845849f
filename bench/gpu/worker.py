"""``python -m bench.gpu.worker SECONDS``: measures the items named on stdin, one a line.

For each a line of JSON goes out: ``{"item": name, "result": ..., "last": false}``, or with ``"error": text``
for the result. When the device no longer works, which an error there can lead to, ``last`` is true and the
process ends.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback


def usable() -> bool:
    """Whether the device still works; gives back the memory that nothing is in."""
    import cupy

    gc.collect()
    try:
        cupy.cuda.Device().synchronize()
        cupy.get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()
    except Exception:
        traceback.print_exc()
        return False
    return True


def main() -> int:
    # Libraries print as they like: replies go out through a copy of stdout, everything else to stderr.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    seconds = float(sys.argv[1])
    for line in sys.stdin:
        item = line.strip()
        reply: dict[str, object] = {"item": item}
        try:
            import fastnn
            from bench.gpu import items

            fastnn.set_backend("cupy")
            reply["result"] = items.do(item, seconds)
        except Exception as error:
            traceback.print_exc()
            reply["error"] = f"{type(error).__name__}: {error}"
        reply["last"] = not usable()
        print(json.dumps(reply), file=replies, flush=True)
        if reply["last"]:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
