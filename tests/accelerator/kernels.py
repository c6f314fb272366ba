"""Every operator of torch on the accelerator, computed on the CPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.accelerator.state import DEVICE, NAME


class _Block:
    """The data of one storage; its memory is given back with it."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage, self.size = storage, storage.nbytes()
        DEVICE.take(self.size)

    def __del__(self) -> None:
        DEVICE.used -= getattr(self, "size", 0)


_CPU = torch.device("cpu")
_KERNELS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)  # of views: they never look at data


class _Empty(torch.Tensor):
    """Made for its storage only, which the device cannot allocate by itself."""

    @classmethod
    def __torch_dispatch__(cls, *_: Any) -> Any:
        raise NotImplementedError


def _alias(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor on the same storage as `tensor`, with the shape of the CPU's `like`."""
    if tensor.dtype == like.dtype:  # of the same kind as `tensor`: in inference mode a view of a normal one is normal
        shape = (like.shape, like.stride(), like.storage_offset())
        return torch.ops.aten.as_strided.default.redispatch(_KERNELS, tensor, *shape)
    made = torch._C._acc.create_empty_tensor((0,), like.dtype)
    return _set(made, tensor.untyped_storage(), like)


def _set(made: Tensor, storage: torch.UntypedStorage, like: Tensor) -> Tensor:
    op = torch.ops.aten.set_.source_Storage_storage_offset
    op.redispatch(_KERNELS, made, storage, like.storage_offset(), like.shape, like.stride())
    return made


def wrapped(data: Tensor) -> Tensor:
    """A tensor on the accelerator with the data of a CPU tensor. Raises: TypeError for float64 where there is none."""
    if not DEVICE.float64 and data.dtype in (torch.float64, torch.complex128):
        raise TypeError("Cannot convert a tensor to float64 on pretend: the device does not support float64.")
    block = _Block(data.untyped_storage())
    empty = torch.Tensor._make_wrapper_subclass(
        _Empty, (0,), dtype=torch.uint8, device=f"{NAME}:0", storage_size=block.size
    )
    with torch._C.DisableTorchFunctionSubclass():
        storage = empty.untyped_storage()
    storage.block = block  # the storage's Python object lives as long as the storage
    return _set(torch._C._acc.create_empty_tensor((0,), data.dtype), storage, data)


def data_of(tensor: Tensor) -> Tensor:
    """The CPU tensor with a tensor's data, shared."""
    block = tensor.untyped_storage().block
    return torch.empty(0, dtype=tensor.dtype).set_(
        block.storage, tensor.storage_offset(), tensor.shape, tensor.stride()
    )


def _on_device(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == NAME


# Operands that may be on the CPU though others are not, as on CUDA: indices, and single numbers in arithmetic.
_INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")
_LINEAR_ALGEBRA = ("aten::linalg_qr", "aten::linalg_svd", "aten::_linalg_svd", "aten::linalg_solve")
_STRICT = ("aten::cat", "aten::stack")


class _Call:
    """The operands of one call: `here` on the accelerator, by the address of their data, and `real` ones of the CPU."""

    def __init__(self) -> None:
        self.here: dict[int, Tensor] = {}
        self.real: list[Tensor] = []

    def plain(self, value: Any) -> Any:
        """An operand as the CPU's operator takes it. Raises: RuntimeError for the CPU's random numbers."""
        if isinstance(value, Tensor):
            if value.device.type != NAME:
                self.real.append(value)
                return value
            data = data_of(value)
            self.here.setdefault(data.untyped_storage().data_ptr(), value)
            return data
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, torch.Generator):
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
        return _CPU if isinstance(value, torch.device) and value.type == NAME else value

    def check(self, name: str, first: Any) -> None:
        """Raises: RuntimeError for operands on both devices."""
        if name in _INDEXED and _on_device(first):
            return
        if self.here and any(v.dim() or name in _STRICT for v in self.real):
            shapes = f"{[tuple(v.shape) for v in self.real]} on cpu, {[tuple(v.shape) for v in self.here.values()]}"
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} got {shapes} on {NAME}")

    def back(self, value: Any, target: Any = None) -> Any:
        """A result: a view of an operand, `target`, into which the operator wrote, or new."""
        if isinstance(value, list | tuple):
            return type(value)(self.back(one) for one in value)
        if not isinstance(value, Tensor):
            return value
        if target is not None:
            return _resized(target, value)
        source = self.here.get(value.untyped_storage().data_ptr()) if value.numel() else None
        return wrapped(value) if source is None else _alias(source, value)


def _refuse(name: str, args: Any) -> None:
    """Raises: NotImplementedError or RuntimeError for what the device is not to have."""
    if not DEVICE.linear_algebra and name.startswith(_LINEAR_ALGEBRA):
        raise NotImplementedError(f"The operator '{name}' is not currently implemented for {NAME}.")
    pooling = name == "aten::_adaptive_avg_pool2d" and not DEVICE.uneven_pooling
    if pooling and any(given % wanted for given, wanted in zip(args[0].shape[-2:], args[1], strict=True)):
        raise RuntimeError("Adaptive pool: input sizes must be divisible by output sizes.")


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """Any operator, computed on the CPU."""
    _refuse(op._schema.name, args)
    call = _Call()
    plain_args = [call.plain(value) for value in args]
    plain_kwargs = {name: call.plain(value) for name, value in kwargs.items()}
    call.check(op._schema.name, args[0] if args else None)
    out = op(*plain_args, **plain_kwargs)
    asked = kwargs.get("device")
    if asked is not None and torch.device(asked).type == "cpu":
        return out
    targets = [None if at is None else _argument(at, args, kwargs) for at in _written(op)]
    if isinstance(out, tuple):
        return tuple(call.back(one, target) for one, target in zip(out, targets, strict=True))
    return call.back(out, targets[0] if targets else None)


def _argument(at: tuple[int, str], args: Any, kwargs: Any) -> Any:
    return args[at[0]] if at[0] < len(args) else kwargs.get(at[1])


@functools.cache
def _written(op: Any) -> tuple[tuple[int, str] | None, ...]:
    """For each result of an operator the argument that it is (in-place operators, `out=`), else None."""
    by_alias = {
        alias: (number, argument.name)
        for number, argument in enumerate(op._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
        for alias in argument.alias_info.before_set
    }
    aliases = [
        r.alias_info.before_set if r.alias_info is not None and r.alias_info.is_write else ()
        for r in op._schema.returns
    ]
    return tuple(next((by_alias[alias] for alias in of if alias in by_alias), None) for of in aliases)


def _resized(target: Tensor, value: Tensor) -> Tensor:
    """`target` after an operator wrote into it; `out=` may have given it another shape."""
    return target if target.shape == value.shape else _set(target, wrapped(value).untyped_storage(), value)


def _copied(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    here = [data_of(t) if _on_device(t) else t for t in (target, source)]
    here[0].copy_(here[1])
    return target


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Any:
    return _run(torch.ops.aten.convolution.default, x, weight, bias, *rest)


def _convolution_backward(grad: Any, x: Any, w: Any, *rest: Any) -> Any:
    *sizes, mask = rest
    bias = [w.shape[0]] if mask[2] else None
    return _run(torch.ops.aten.convolution_backward.default, grad, x, w, bias, *sizes, mask)


_OWN: dict[str, Callable[..., Any]] = {
    "empty.memory_format": lambda size, *, dtype=None, **_: wrapped(torch.empty(size, dtype=dtype)),
    "empty_strided": lambda size, stride, *, dtype=None, **_: wrapped(torch.empty_strided(size, stride, dtype=dtype)),
    "_local_scalar_dense": lambda tensor: data_of(tensor).item(),
    "_copy_from": _copied,
    "convolution_overrideable": _convolution,
    "convolution_backward_overrideable": _convolution_backward,
    "set_.source_Storage_storage_offset": lambda made, storage, offset, size, stride=(): torch.ops.aten.set_.
    source_Storage_storage_offset.redispatch(_KERNELS, made, storage, offset, size, stride),
}  # fmt: skip
# These end in the ones above.
_LEFT = {"_to_copy", "copy_", "empty_like", "is_pinned", "_pin_memory", "resize_"}
_libraries: list[Any] = []


_KINDS = (
    "PrivateUse1",
    "CompositeImplicitAutograd",
    "CompositeExplicitAutograd",
    "CompositeExplicitAutogradNonFunctional",
)


@functools.cache
def device() -> torch.device:
    """The accelerator, which torch knows from the first call on."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, DEVICE)
    fallback, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    fallback.fallback(_run, "PrivateUse1")
    for name, function in _OWN.items():
        aten.impl(name, function, "PrivateUse1")
    for full in torch._C._dispatch_get_all_op_names():
        base, _, overload = full.removeprefix("aten::").partition(".")
        op = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if not full.startswith("aten::") or op is None or base in _LEFT or full[6:] in _OWN:
            continue
        kernels = {k for k in _KINDS if torch._C._dispatch_has_kernel_for_dispatch_key(full, k)}
        # Views look at no data: torch's own kernels serve. Others that torch has for every device do look at it, and
        # would never reach the fallback.
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in op._schema.returns)
        if not kernels & {"PrivateUse1", "CompositeImplicitAutograd"} and kernels and not view:
            aten.impl(full[6:], functools.partial(_run, op), "PrivateUse1")
    _libraries.extend((fallback, aten))
    return torch.device(f"{NAME}:0")
