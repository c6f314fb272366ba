"""PyTorch's attention in the place of the host's for the time of a gradient.

The hosts choose one attention for the UNet when they start, and keep it in a global of a module. Flash attention has no
gradient there, Sage attention gives a wrong one without an error, and others keep whole maps for the backward.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_PLACES = (  # module and name of the global, and the module with PyTorch's attention
    ("backend.nn.unet", "attention_function", "backend.attention"),
    ("ldm_patched.ldm.modules.attention", "optimized_attention", "ldm_patched.ldm.modules.attention"),
    ("ldm_patched.ldm.modules.attention", "optimized_attention_masked", "ldm_patched.ldm.modules.attention"),
)


@contextmanager
def pytorch_attention() -> Iterator[None]:
    """The UNet attends by PyTorch's own function inside this block, and by the host's afterwards."""
    with ExitStack() as stack:
        for where, name, source in _PLACES:
            module = sys.modules.get(where)
            own = getattr(sys.modules.get(source), "attention_pytorch", None)
            if own is not None and hasattr(module, name):
                stack.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, own)
        yield
