"""One job in the order in which a WebUI goes through it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import networks
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from modules import devices, prompt_parser, sd_samplers, shared
from modules.scripts import ScriptRunner
from modules.sd_samplers_common import sample_to_image


@dataclass
class Processed:
    """What a job gives; `latents` are for the tests."""

    images: list[Any] = field(default_factory=list)
    infotexts: list[str] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    comments: str = ""
    extra_generation_params: dict[str, Any] = field(default_factory=dict)
    index_of_first_image: int = 0


@dataclass
class Processing:
    """A job: the fields a WebUI's job has, and those that scripts read."""

    all_prompts: list[str]
    all_negative_prompts: list[str] = field(default_factory=list)
    scripts: ScriptRunner = field(default_factory=ScriptRunner)
    seed: int | list[int] = 1
    steps: int = 4
    cfg_scale: float = 4.0
    s_min_uncond: float = 0.0
    width: int = 128
    height: int = 128
    batch_size: int = 1
    sampler_name: str = "Euler"
    enable_hr: bool = False
    hr_scale: float = 2.0
    hr_second_pass_steps: int = 0
    hr_sampler_name: str | None = None
    denoising_strength: float = 0.7
    init_latent: Tensor | None = None
    mask: Tensor | None = None
    apart: bool = False
    watch: Callable[[int, Tensor], None] = lambda number, x: None

    def __post_init__(self) -> None:
        self.prompt: Any = ""
        self.negative_prompt = self.hr_prompt = self.hr_negative_prompt = self.prompt
        self.subseed: Any = -1
        self.styles: list[str] = []
        self.do_not_save_samples = self.do_not_save_grid = False
        self.outpath_samples = ""
        self.all_negative_prompts = self.all_negative_prompts or [""] * len(self.all_prompts)
        self.all_hr_prompts = list(self.all_prompts)
        self.all_hr_negative_prompts = list(self.all_negative_prompts)
        self.all_seeds = self.all_subseeds = self.seeds = list[int]()
        self.extra_generation_params: dict[str, Any] = {}
        self.comments: dict[str, int] = {}
        self.is_hr_pass = False
        self.samplers: list[Any] = []
        self.prompts = self.negative_prompts = list[str]()

    def settle(self) -> None:
        """What is asked for as lists goes first; seeds count up from one."""
        for name in ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"):
            given = getattr(self, name)
            if given:
                texts = given if isinstance(given, list) else [given] * len(self.all_prompts)
                setattr(self, f"all_{name}s", texts)
        one = isinstance(self.seed, int)
        self.all_seeds = [self.seed + n for n in range(len(self.all_prompts))] if one else list(self.seed)
        self.all_subseeds = [0] * len(self.all_prompts)

    @property
    def n_iter(self) -> int:
        """Number of batches."""
        return len(self.all_prompts) // self.batch_size

    @property
    def sampler(self) -> Any:
        """The sampler of the pass."""
        return self.samplers[-1] if self.samplers else None

    @property
    def script_args(self) -> tuple[Any, ...]:
        """The number of the selectable script, from 1, and the values of all scripts."""
        return self.scripts.arguments()

    def comment(self, text: str) -> None:
        """A line under the pictures."""
        self.comments[text] = 1

    def parse_extra_network_prompts(self) -> None:
        """Take the tags out; those of the first prompt count."""
        self.prompts, self.extra_network_data = networks.take_tags(self.prompts)
        if self.enable_hr:
            own = self.all_hr_prompts[self.iteration * self.batch_size : (self.iteration + 1) * self.batch_size]
            self.hr_prompts, self.hr_extra_network_data = networks.take_tags(own)

    def _conds(self, prompts: list[str], sampler: str, steps: int, first_steps: int | None = None) -> Any:
        config = sd_samplers.find_sampler_config(sampler)
        assert config is not None
        first = None if first_steps is None else self._calls(first_steps)
        conds, unconds = (
            prompt_parser.schedules(shared.sd_model, texts, config.total_steps(steps), first)
            for texts in (prompts, self.negative_prompts)
        )
        return prompt_parser.multicond(conds), unconds

    def _calls(self, steps: int) -> int:
        config = sd_samplers.find_sampler_config(self.sampler_name)
        assert config is not None
        return config.total_steps(steps)

    def sample(self, prompts: list[str]) -> Any:
        """Both passes of one batch: latents."""
        first = self.iteration * self.batch_size
        h, w = self.height // 8, self.width // 8
        conds = self._conds(self.prompts, self.sampler_name, self.steps)
        x = self._pass(self.sampler_name, self._noise(first, h, w), conds, self.steps, self.init_latent)
        if not self.enable_hr or shared.state.interrupted:
            return x
        self.is_hr_pass = True
        h, w = int(h * self.hr_scale), int(w * self.hr_scale)
        init = F.interpolate(x, (h, w), mode="nearest")
        networks.activate(self, self.hr_extra_network_data)
        name, steps = self.hr_sampler_name or self.sampler_name, self.hr_second_pass_steps or self.steps
        conds = self._conds(self.hr_prompts, name, steps, self.steps)
        x = self._pass(name, self._noise(first, h, w), conds, steps, init)
        self.is_hr_pass = False
        return x

    def _noise(self, first: int, h: int, w: int) -> Tensor:
        seeds = self.all_seeds[first : first + len(self.prompts)]
        made = [torch.randn(4, h, w, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(made).to(devices.latent_dtype()).to(devices.device)

    def _pass(self, name: str, noise: Tensor, conds: Any, steps: int, init: Tensor | None) -> Tensor:
        sampler = sd_samplers.create_sampler(name)
        sampler.watch = self.watch
        self.samplers.append(sampler)
        forge = hasattr(shared.sd_model, "forge_objects")
        if forge:
            sampler.model_wrap_cfg.apart = self.apart
        # Forge calls the hook twice in its hires pass, with everything patched before taken away in between.
        for _ in range(2 if shared.sd_model.kind == "forge" and self.is_hr_pass else 1):
            if forge:
                model = shared.sd_model
                model.forge_objects = model.forge_objects_after_applying_lora.shallow_copy()
            x = noise if init is None else init
            self.scripts.call("process_before_every_sampling", self, x=x, noise=noise, c=conds[0], uc=conds[1])
        return sampler.sample(self, noise, conds, steps, init)


def process_images(p: Processing) -> Processed:
    """Run a job. What is raised outside of scripts ends it."""
    p.scripts.before_process(p)
    p.settle()
    torch.manual_seed(p.all_seeds[0])
    p.scripts.call("process", p)
    processed = Processed(extra_generation_params=p.extra_generation_params)
    with ExitStack() as stack:
        if hasattr(shared.sd_model, "forge_objects"):
            stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.no_grad())
        for number in range(p.n_iter):
            p.iteration = number
            shared.state.skipped = False
            if shared.state.interrupted:
                break
            own = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
            p.prompts, p.negative_prompts = p.all_prompts[own], p.all_negative_prompts[own]
            p.seeds = p.all_seeds[own]
            p.scripts.call("before_process_batch", p, batch_number=p.iteration, prompts=p.prompts)
            p.parse_extra_network_prompts()
            networks.activate(p, p.extra_network_data)
            p.scripts.call("after_extra_networks_activate", p, batch_number=p.iteration, prompts=p.prompts)
            p.scripts.call("process_batch", p, batch_number=p.iteration, prompts=p.prompts)
            samples = p.sample(prompts=p.prompts)
            if getattr(samples, "already_decoded", False):
                latents, images = torch.stack(samples), [Image.new("RGB", one.shape[:0:-1]) for one in samples]
            else:
                latents, images = samples, [sample_to_image(samples, image) for image in range(len(samples))]
            p.scripts.call("postprocess_batch", p, images, batch_number=p.iteration)
            for p.batch_index, image in enumerate(images):
                p.scripts.call("postprocess_image", p, SimpleNamespace(image=image))
            processed.latents += [latent.detach().clone() for latent in latents]
            processed.images += images
            processed.infotexts += [_infotext(p, own.start + number) for number in range(len(images))]
    if not processed.infotexts:
        processed.infotexts.append(_infotext(p, 0))
    processed.comments = "".join(f"{comment}\n" for comment in p.comments)
    p.scripts.call("postprocess", p, processed)
    return processed


def _infotext(p: Processing, number: int) -> str:
    fields = {"Steps": p.steps, "Sampler": p.sampler_name, **p.extra_generation_params}
    if p.enable_hr and p.all_hr_prompts[number] != p.all_prompts[number]:
        fields["Hires prompt"] = p.all_hr_prompts[number]
    return p.all_prompts[number] + "\n" + ", ".join(f"{name}: {value}" for name, value in fields.items())
