"""The stand-ins as one object that runs jobs, for the tests of this folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.hosts.tiny import write_lora

PROMPT = "a <lora:cat:1> cat and a <lora:dog:1> dog on grass"
FEW = {
    "update_until": 0.5, "refine_updates": 1, "refine_at": [0.0], "step_size": 2.0, "look_ahead": 0.0,
    "own_places": 0.0, "show_masks": False,
}  # fmt: skip
KINDS = ("a1111", "forge", "reforge")


@dataclass
class Job:
    """A job that has run."""

    p: Any
    processed: Any

    @property
    def latent(self) -> Tensor:
        """The first picture's latent."""
        return self.processed.latents[0]


class Host:
    """The stand-ins with one folder of LoRAs; `use` chooses the one that is loaded."""

    def __init__(self, folder: Path) -> None:
        import networks
        from modules import errors, processing, scripts, sd_unet, shared, tiny_a1111, tiny_forge, tiny_reforge

        from clora.webui.script import Script

        self.models = {"a1111": tiny_a1111.load(), "forge": tiny_forge.load(), "reforge": tiny_reforge.load()}
        self.shared, self.errors, self.scripts, self.processing = shared, errors, scripts, processing
        self.sd_unet, self.script = sd_unet, Script()
        model = self.models["a1111"]
        parts = SimpleNamespace(unet=model.unet_module, text_encoder=model.text_module)
        for seed, name in enumerate(("cat", "dog", "horse")):
            write_lora(folder / f"{name}.safetensors", parts, seed)
        networks.folder, self.networks = folder, networks
        networks.list_available_networks()
        self._first: dict[tuple[str, bool], Tensor] = {}

    def use(self, kind: str) -> None:
        """Load a host's model; the one before is left without merged LoRAs."""
        with torch.inference_mode(hasattr(self.shared.sd_model, "forge_objects")), torch.no_grad():
            self.networks.activate(None, [])
        self.shared.sd_model = self.models[kind]
        self.shared.state.on_told = None

    @property
    def model(self) -> Any:
        """The loaded model."""
        return self.shared.sd_model

    def hook(self) -> Any:
        """The class of the hook on this host's sampler."""
        if self.model.kind != "a1111":
            from clora.hosts.forge.hook import ForgeSamplerHook

            return ForgeSamplerHook
        from clora.hosts.a1111.hook import A1111SamplerHook

        return A1111SamplerHook

    def job(self, prompt: str | list[str] = PROMPT, clora: Any = None, **fields: Any) -> Any:
        """A job that has not run; `clora` are the extension's fields, None is a host without the extension."""
        prompts = [prompt] if isinstance(prompt, str) else prompt
        given = clora if isinstance(clora, tuple) else (clora,)
        own = [] if clora is None else [(self.script, given)]
        own += [(script, ()) for script in fields.pop("beside", ())]
        runner = self.scripts.ScriptRunner(own, fields.pop("script", None))
        if "negative" in fields:
            fields["all_negative_prompts"] = [fields.pop("negative")] * len(prompts)
        return self.processing.Processing(prompts, scripts=runner, **{"batch_size": len(prompts), **fields})

    def run(self, p: Any) -> Job:
        """Run a job; nothing may fail unnoticed in a script."""
        self.errors.reports.clear()
        self.shared.state.begin()
        processed = p.scripts.run(p, *p.script_args) or self.processing.process_images(p)
        assert self.errors.reports == [], self.errors.reports[0]
        return Job(p, processed)

    def draw(self, prompt: str | list[str] = PROMPT, clora: Any = None, **fields: Any) -> Job:
        """Make and run a job."""
        return self.run(self.job(prompt, clora, **fields))

    def first(self, *, composed: bool = False) -> Tensor:
        """The latent of `PROMPT`, without the extension or by CLoRA, when it was first drawn on this host."""
        key = (self.model.kind, composed)
        if key not in self._first:
            self._first[key] = self.draw(clora=FEW if composed else None).latent
        return self._first[key]

    def updates(self) -> int:
        """How many latent updates the last job told of."""
        return sum(text.startswith("CLoRA: ") for text in self.shared.state.told)

    def traces(self, *jobs: Any) -> dict[str, Any]:
        """What CLoRA must not leave behind: hooks, options of the UNet, requires_grad."""
        roots = [self.model.unet_module, self.model.text_module]
        roots += [sampler.model_wrap_cfg for p in jobs for sampler in p.samplers]
        modules = [module for root in roots for module in root.modules()]
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)
        grads = [p.requires_grad for root in roots[:2] for p in root.parameters()]
        found: dict[str, Any] = {"hooks": hooks, "requires_grad": grads}
        if hasattr(self.model, "forge_objects"):
            objects = (self.model.forge_objects_after_applying_lora, self.model.forge_objects)
            found["options"] = [set(one.unet.model_options) - {"transformer_options"} for one in objects]
            found["unets"] = objects[0].unet is objects[1].unet
        return found


def near(one: Tensor, other: Tensor, tolerance: float = 1e-7) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) < tolerance
