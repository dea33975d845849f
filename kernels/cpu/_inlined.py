"""How Numba compiles a helper that is always inlined: to LLVM's intermediate code, and no further.

Numba would also make machine code of it, and two ways in, for Python and for C. Nobody ever calls these, yet
all three are written, optimised and linked anew for every helper. And it would have LLVM go over a helper
three times: over each function by itself, cheaply over the module, so that pairs of reference counts meet and
cancel, and thoroughly. The last is enough, as the kernel that takes the helper in goes through all three.

A first step of ``cifar10-cnn``, with nothing compiled, takes two thirds of the time so.

This goes by how Numba is built inside: ``_jit.py`` uses it for the versions that it was tried with.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class Inlined(Compiler):
    """To be named to Numba as the ``pipeline_class`` of such a helper."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        steps = [(_Lowering if step is NativeLowering else step, text) for step, text in pipeline.passes]
        pipeline.passes, pipeline._finalized = steps, False
        pipeline.finalize()
        return [pipeline]


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "lowering of a helper"

    def run_pass(self, state: Any) -> bool:
        context, flags = state.targetctx, state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        state.library = _Library(context.codegen(), state.func_id.func_qualname)
        super().run_pass(state)
        # Callers know a function by an object of its own, which must be a builtin. Called, this one raises.
        known_as: Any = {}.popitem
        context.insert_user_function(known_as, state.cr.fndesc, [state.library])
        state.reload_init.extend(getattr(state.library, "_reload_init", ()))
        state.cr = state.cr._replace(cfunc=known_as)
        return True


class _Library(CPUCodeLibrary):
    """Optimised code for others to link in; no execution engine hears of it."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        passes = self._codegen._module_pass_manager()
        if isinstance(passes, tuple):  # Numba 0.62 and later: LLVM's new manager, with what built it
            passes[0].run(self._final_module, passes[1])
        else:
            passes.run(self._final_module)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True
