"""Watches a run of the authors' pipeline: its methods are called through, and what goes in and comes out is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

TOKENS = 24
"""Text positions of the maps that are kept; no prompt has more tokens."""


class EnoughError(Exception):
    """Ends a run after the steps that are kept; the rest would only take time."""


class Watch:
    """What one run leaves: `kept` tensors by name, and for each step how near its `masks` are to another cut.

    With `layers` the attention probabilities of each layer at the first update are kept too.
    """

    def __init__(self, steps: int, mask_indices: list[list[int]], threshold: float, *, layers: bool) -> None:
        self.steps, self.layers = steps, layers
        self.mask_indices, self.threshold = mask_indices, threshold
        self.kept: dict[str, Tensor] = {}
        self.masks: list[dict[str, Any]] = []
        self.step = self.passes = 0
        self._original: dict[str, Callable[..., Any]] = {}

    @contextmanager
    def attached(self, pipe: Any) -> Iterator[None]:
        """Inside this block the pipeline's methods of interest are called through this object.

        Raises: EnoughError out of the run after the last step that is kept.
        """
        replaced = {
            "prepare_latents": self._prepare_latents, "predict_noise_and_aggregate_attention": self._predict,
            "loss_fn": self._loss, "update_latents": self._update, "attention_map_to_mask": self._cut_masks,
        }  # fmt: skip
        self._original = {name: getattr(pipe, name) for name in replaced} | {"step": pipe.scheduler.step}
        try:
            for name, method in replaced.items():
                setattr(pipe, name, method)
            pipe.scheduler.step = self._sampler_step
            yield
        finally:
            for name in replaced:
                delattr(pipe, name)
            del pipe.scheduler.step

    def _keep(self, name: str, value: Tensor) -> None:
        self.kept[name] = value.detach().clone().contiguous()

    def _of_pass(self, name: str, value: Tensor) -> None:
        self._keep(f"step{self.step}/pass{self.passes - 1}/{name}", value)

    def _of_step(self, name: str, value: Tensor) -> None:
        self._keep(f"step{self.step}/{name}", value)

    # --------------------------------------------------------------------- the pipeline's methods

    def _prepare_latents(self, *args: Any, **kwargs: Any) -> Tensor:
        latents: Tensor = self._original["prepare_latents"](*args, **kwargs)
        self._keep("latents_init", latents)
        return latents

    def _predict(self, *args: Any, **kwargs: Any) -> Any:
        predictions, maps = self._original["predict_noise_and_aggregate_attention"](*args, **kwargs)
        self.passes += 1
        self._keep("prompt_embeds", torch.stack(args[1]))
        if self.passes > 1:
            self.kept.pop(f"step{self.step}/pass{self.passes - 2}/noise_preds", None)
        self._of_pass("noise_preds", torch.stack(predictions))
        self._of_pass("attention_maps", torch.stack(maps)[..., :TOKENS])
        if self.layers and self.step == 0 and self.passes == 1:
            stored = args[6].attention_store
            for number, (block, probabilities) in enumerate((b, p) for b in ("down", "mid", "up") for p in stored[b]):
                self._of_pass(f"layer_probs/prompt{len(maps) - 1}/{number}_{block}", probabilities[..., :TOKENS])
        return predictions, maps

    def _loss(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = self._original["loss_fn"](*args, **kwargs)
        self._of_pass("loss", loss.reshape(1))
        return loss

    def _update(self, latent: Tensor, loss: Tensor, step_size: float) -> Tensor:
        with torch.enable_grad():
            (grad,) = torch.autograd.grad(loss, [latent], retain_graph=True)
        after: Tensor = self._original["update_latents"](latent, loss, step_size)
        for name, value in (("latent_before", latent), ("grad", grad), ("latent_after", after)):
            self._of_pass(name, value)
        return after

    def _cut_masks(self, **kwargs: Any) -> Tensor:
        masks: Tensor = self._original["attention_map_to_mask"](**kwargs)
        self._of_step("masks", masks[:, 0, 0].to(kwargs["attention_maps"][0].dtype))
        margin = math.inf
        for maps, tokens in zip(kwargs["attention_maps"], self.mask_indices, strict=True):
            for one in (maps[..., token] for token in tokens):
                margin = min(margin, float(((one - one.max() * self.threshold).abs() / one.max()).min()))
        cover = [round(float(mask.mean()), 4) for mask in masks[:, 0, 0]]
        self.masks.append({"step": self.step, "margin": margin, "cover": cover})
        return masks

    def _sampler_step(self, noise: Tensor, t: Any, latents: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = self._original["step"](noise, t, latents, *args, **kwargs)
        for name, value in (("noise_pred", noise), ("latent_in", latents), ("latent_out", result[0])):
            self._of_step(name, value)
        self.step, self.passes = self.step + 1, 0
        if self.step == self.steps:
            raise EnoughError
        return result
