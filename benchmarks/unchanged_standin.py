"""The runs of `benchmarks.unchanged` in the stand-ins for A1111 and Forge: jobs of the script on tiny models."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from tests.standin import installed

from .unchanged_drawn import Drawn

ENTRY = Path(__file__).parents[1] / "scripts" / "clora.py"
KINDS = ("a1111", "forge")
PROMPT = "a <lora:cat:1> cat and a <lora:dog:1> dog on grass"
OTHER = "on sand a <lora:horse:1> horse near a <lora:cat:0.8> cat"
FEW = {"refine_updates": 1, "refine_at": [0.0], "step_size": 2.0}
HIRES = {"enable_hr": True, "hr_scale": 1.5}
LEFT = {"corrections": {"cat": {"place": "left"}}}

# `clora` are the extension's fields (None: a host without the extension), the others the job's.
JOBS: dict[str, dict[str, Any]] = {
    "without": {"clora": None},
    "default": {"clora": {}},
    "exact": {"clora": {"preset": "exact", "refine_updates": 5}},
    "fast": {"clora": {"preset": "fast"}},
    "paper": {"clora": {**FEW, "preset": "paper"}},
    "paper, Heun": {"clora": {**FEW, "preset": "paper"}, "sampler_name": "Heun"},
    "paper, DDIM": {"clora": {**FEW, "preset": "paper"}, "sampler_name": "DDIM"},
    "hires": {**HIRES},
    "hires, single pass": {"clora": {**FEW, "fusion": "single-pass"}, **HIRES, "hr_sampler_name": "Heun"},
    "hires alone": {"clora": {**FEW, "hires": False}, **HIRES},
    "merge": {"clora": {"method": "merge"}},
    "composite": {"clora": {"method": "composite"}},
    "switch": {"clora": {"method": "switch"}},
    "economies": {"clora": {**FEW, "fusion": "exact", "mask_every": 2, "variants_every": 2, "compose_until": 0.8,
                            "shared_uncond": True, "rows_per_forward": 2, "update_layers": "down"}},
    "gallery": {"clora": {**FEW, "show_maps": True, "show_loss": True, "show_merge": True}},
    "preview": {"clora": {**FEW, "fuse_from": 0.0, "preview_masks": True}},
    "place": {"clora": {**FEW, **LEFT}},
    "background": {"prompt": f"{PROMPT} <lora:horse:1:role=background>"},
    "style": {"prompt": f"{PROMPT} <lora:horse:0.5:role=style>"},
    "style@": {"prompt": f"{PROMPT} <lora:horse:0.5:role=style@cat>"},
    "scheduled": {"prompt": f"{PROMPT} [by day:at night:0.5]", "sampler_name": "Heun"},
    "long": {"prompt": PROMPT + ", many (words:1.2)" * 30, "negative": "bad, worse" + ", blurry" * 40},
    "two prompts": {"prompt": [PROMPT, OTHER], "seed": 5},
    "one of two composes": {"prompt": [PROMPT, "on sand a <lora:horse:0.8> horse"], "seed": 5},
    "two batches": {"prompt": [PROMPT, OTHER], "seed": 5, "batch_size": 1},
    "halves apart": {"apart": True},
    "no guidance": {"cfg_scale": 1.0, "clora": {**FEW, "maps": "both"}},
    "inpainting": {"inpaint": True, "denoising_strength": 0.9},
}  # fmt: skip


def entry_script() -> Any:
    """A new script, by the entry file that a WebUI loads."""
    spec = importlib.util.spec_from_file_location("clora_entry", ENTRY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CLoRAScript()


def inpainting() -> dict[str, Tensor]:
    """A latent to start from, and a mask that lets the right half change."""
    init = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    mask[..., 8:] = 1.0
    return {"init_latent": init, "mask": mask}


class StandIn:
    """Both stand-ins with one folder of LoRAs."""

    def __init__(self, folder: Path) -> None:
        import networks
        from modules import errors, processing, scripts, shared, tiny_a1111, tiny_forge

        self.models = {"a1111": tiny_a1111.load(), "forge": tiny_forge.load()}
        self.shared, self.errors, self.scripts, self.processing = shared, errors, scripts, processing
        self.script = entry_script()
        # As many previews as the host asks for, however slow this machine is.
        setattr(importlib.import_module("clora.hosts.preview"), "SHARE", float("inf"))  # noqa: B010
        model = self.models["a1111"]
        write_lora = importlib.import_module("tests.hosts.tiny").write_lora  # needs pytest, as all of the tests
        parts = SimpleNamespace(unet=model.unet_module, text_encoder=model.text_module)
        for seed, name in enumerate(("cat", "dog", "horse")):
            write_lora(folder / f"{name}.safetensors", parts, seed)
        networks.folder = folder
        networks.list_available_networks()

    def draw(self, kind: str, fields: Mapping[str, Any]) -> Drawn:
        """Run a job on one host. What fails in the script, which a WebUI only logs, ends everything."""
        self.shared.sd_model = self.models[kind]
        path: list[Tensor | None] = []
        job = self._job(**fields)
        job.watch = lambda number, x: path.append(x.detach().clone())
        self.errors.reports.clear()
        self.shared.state.begin()
        done = self.processing.process_images(job)
        if self.errors.reports:
            raise RuntimeError(f"{kind}: {self.errors.reports}")
        pictures = [*done.images, *self.shared.state.previews]
        return Drawn(torch.stack(done.latents), path, (), pictures, done.infotexts, done.comments.splitlines())

    def _job(
        self, prompt: str | list[str] = PROMPT, clora: Any = FEW, negative: str = "", inpaint: bool = False, **more: Any
    ) -> Any:
        prompts = [prompt] if isinstance(prompt, str) else prompt
        runner = self.scripts.ScriptRunner([] if clora is None else [(self.script, (clora,))])
        given = {"batch_size": len(prompts), "steps": 4, **(inpainting() if inpaint else {}), **more}
        return self.processing.Processing(prompts, [negative] * len(prompts), scripts=runner, **given)


def standin_runs(jobs: Mapping[str, Mapping[str, Any]] = JOBS) -> Iterator[tuple[str, Drawn]]:
    """Every job on both hosts, one after the other, with its name."""
    with tempfile.TemporaryDirectory() as folder, installed():
        host = StandIn(Path(folder))
        for kind in KINDS:
            for name, fields in jobs.items():
                torch.manual_seed(0)
                yield f"{kind}: {name}", host.draw(kind, fields)
