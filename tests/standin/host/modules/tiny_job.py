"""A job and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import networks
import torch
import torch.nn.functional as F
from torch import Tensor

from modules import devices, prompt_parser, sd_samplers, shared
from modules.scripts import ScriptRunner


class Processed:
    """What a job gives; `latents` are for the tests."""

    def __init__(
        self, p: Any, images_list: list[Any], infotexts: list[str] | None = None, comments: str = "",
        index_of_first_image: int = 0,
    ) -> None:  # fmt: skip
        self.images, self.infotexts, self.comments = images_list, infotexts or [], comments
        self.index_of_first_image = index_of_first_image
        self.latents: list[Tensor] = []
        self.extra_generation_params: dict[str, Any] = p.extra_generation_params


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
    tiling: bool = False
    token_merging_ratio: float = 0.0
    override_settings: dict[str, Any] = field(default_factory=dict)
    apart: bool = False
    watch: Callable[[int, Tensor], None] = lambda number, x: None

    def __post_init__(self) -> None:
        self.prompt: Any = ""
        self.negative_prompt = self.hr_prompt = self.hr_negative_prompt = self.prompt
        self.subseed: Any = -1
        self.styles: list[str] = []
        self.do_not_save_samples = self.do_not_save_grid = False
        self.outpath_samples = ""
        self.is_api, self.user = False, None
        self.overlays: list[Any] = []
        self._script_args: tuple[Any, ...] | None = None
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
    def sd_model(self) -> Any:
        """The loaded model."""
        return shared.sd_model

    @property
    def script_args(self) -> tuple[Any, ...]:
        """The number of the selectable script, from 1, and the values of all scripts."""
        return self.scripts.arguments() if self._script_args is None else self._script_args

    @script_args.setter
    def script_args(self, values: tuple[Any, ...]) -> None:
        self._script_args = values

    def init(self) -> None:
        """What a job makes before its first batch."""

    def close(self) -> None:
        """The job is over."""
        self.samplers = self.samplers[-1:]

    def get_token_merging_ratio(self) -> float:
        """How many tokens are merged."""
        return self.token_merging_ratio

    def finished(self, image: Any) -> Any:
        """A picture as it is saved."""
        return image

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
