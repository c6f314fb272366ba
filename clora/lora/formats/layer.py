"""What a LoRA needs to know about the layer it changes: shape, kind, and how a weight acts on an activation.

Layers are recognised by their attributes (`weight`, `in_features`, `kernel_size`, `num_groups`), never by class:
Forge's Linear is not a torch.nn.Linear, and A1111 patches the classes of torch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["linear", "conv", "norm"]
_CONV: dict[int, Callable[..., Tensor]] = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of a layer that a LoRA can change; None for every other module."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor):
        return None
    if weight.ndim == 1 and (hasattr(module, "num_groups") or hasattr(module, "normalized_shape")):
        return "norm"
    if weight.ndim == 2 and hasattr(module, "in_features"):
        return "linear"
    if weight.ndim in _CONV and hasattr(module, "kernel_size") and not getattr(module, "transposed", False):
        return "conv"
    return None


class Layer:
    """One layer of the host: `weight` (out, in), (out, in/groups, *kernel) or (channels,).

    `rows` selects a slice of the first weight axis: the q, k or v third of a fused attention projection.
    """

    def __init__(
        self, module: nn.Module, kind: Kind, *, weight: str = "weight", bias: str = "bias", rows: slice | None = None
    ) -> None:
        self.module = module
        self.kind: Kind = kind
        self._weight, self._bias, self._rows = weight, bias, rows
        shape = tuple(getattr(module, weight).shape)
        self.shape: tuple[int, ...] = shape if rows is None else (len(range(*rows.indices(shape[0]))), *shape[1:])
        self.channel_axis = 1 if kind == "conv" or hasattr(module, "num_groups") else -1

    @property
    def weight(self) -> Tensor:
        """The host's current weight, in its storage dtype."""
        weight = self._kept(self._weight)
        assert weight is not None
        return weight if self._rows is None else weight[self._rows]

    @property
    def bias(self) -> Tensor | None:
        """The host's bias (out,) or None."""
        bias = self._kept(self._bias)
        return bias if bias is None or self._rows is None else bias[self._rows]

    def _kept(self, name: str) -> Tensor | None:
        """A parameter of the host; accelerate's sequential offloading keeps them elsewhere between forwards."""
        tensor: Tensor | None = getattr(self.module, name, None)
        if tensor is not None and tensor.is_meta and hasattr(self.module, "_hf_hook"):
            tensor = self.module._hf_hook.weights_map[name]  # type: ignore[union-attr,index]
        return tensor

    @property
    def grouped(self) -> bool:
        """True for a convolution with groups; low-rank forms then use their dense weight."""
        return int(getattr(self.module, "groups", 1)) != 1 and self.kind == "conv"

    def per_channel(self, vector: Tensor, like: Tensor) -> Tensor:
        """A vector (channels,) shaped to scale or shift an activation `like` on its channel axis."""
        if self.channel_axis == -1:
            return vector
        return vector.reshape(1, -1, *[1] * (like.ndim - 2))

    def apply(self, x: Tensor, weight: Tensor) -> Tensor:
        """The layer applied to x with another `weight` (of the same number of axes) and without bias."""
        if self.kind == "linear":
            return F.linear(x, weight)
        if self.kind == "conv":
            return self._convolve(x, weight)
        module = self.module
        if hasattr(module, "num_groups"):
            return F.group_norm(x, int(module.num_groups), weight, None, float(module.eps))  # type: ignore[arg-type]
        shape = list(module.normalized_shape)  # type: ignore[arg-type]
        return F.layer_norm(x, shape, weight, None, float(module.eps))  # type: ignore[arg-type]

    def pointwise(self, x: Tensor, matrix: Tensor) -> Tensor:
        """A matrix (out, in) applied to the channels of x at every position."""
        if self.kind == "linear":
            return F.linear(x, matrix)
        return _CONV[x.ndim](x, matrix.reshape(*matrix.shape[:2], *[1] * (x.ndim - 2)))

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        module, padding = self.module, self.module.padding
        if getattr(module, "padding_mode", "zeros") != "zeros":  # the WebUI's tiling sets "circular"
            x = F.pad(x, module._reversed_padding_repeated_twice, mode=module.padding_mode)  # type: ignore[arg-type]
            padding = 0  # type: ignore[assignment]
        return _CONV[weight.ndim](
            x, weight, stride=module.stride, padding=padding, dilation=module.dilation, groups=module.groups
        )


class Casts:
    """Tensors made once per (device, dtype) and kept. They are computed in float32, or in float64 for float64."""

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Tensor, ...]] = {}

    def get(self, like: Tensor, make: Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """`make(move)` cast to the device and dtype of `like`; `move` casts a tensor to the working dtype."""
        key = (like.device, like.dtype)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = cast_outside_autograd(like, make)
        return made


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A block without autocast. Some versions of torch know none for MPS or DirectML, and refuse to turn it off too."""
    try:
        return torch.autocast(device.type, enabled=False)
    except (RuntimeError, AssertionError):
        return nullcontext()


def cast_outside_autograd(
    like: Tensor, make: Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Run `make` without gradient, autocast and inference mode, so that its tensors can later be saved for backward.

    It runs on the device of `like`, or on the CPU where the device lacks one of its operators.
    """
    work = torch.float64 if like.dtype == torch.float64 else torch.float32

    def made_on(device: torch.device) -> tuple[Tensor, ...]:
        return make(lambda tensor: tensor.detach().to(device, work))

    with torch.inference_mode(False), torch.no_grad(), without_autocast(like.device):
        try:
            made = made_on(like.device)
        except NotImplementedError:  # linear algebra on MPS and DirectML
            made = made_on(torch.device("cpu"))
        moved = (tensor.to(like.device, like.dtype) for tensor in made)
        return tuple(tensor.clone() if tensor.is_inference() else tensor for tensor in moved)
