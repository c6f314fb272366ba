"""The detail render: a part of a job's finished picture drawn again as inpainting, by the host's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules import shared
from modules.processing import StableDiffusionProcessingImg2Img, process_images
from PIL import Image

from ..errors import CLoRAError
from . import host_api
from .controlnet import scripts_of_inner_job

_OF_THE_JOB = (
    "outpath_samples", "outpath_grids", "sampler_name", "scheduler", "cfg_scale", "distilled_cfg_scale",
    "subseed_strength", "tiling", "eta", "s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise",
)  # fmt: skip
"""What the inner job has from the job, where the host knows it. Tiling, too: the host sets it for all that follows."""
_STATE = (
    "job", "job_no", "job_count", "sampling_step", "sampling_steps", "textinfo", "current_latent",
    "processing_has_refined_job_count",
)  # fmt: skip
_OPTIONS = {"save_init_img": False, "img2img_color_correction": False, "overlay_inpaint": True}
"""Options for the inner job: it saves nothing, keeps its colours, and gives the whole picture, not the crop."""


@dataclass(frozen=True)
class Redraw:
    """What is drawn again: `area` is an "L" picture of how much it counts where, `touched` where it counts at all.

    The crop is what is touched with `padding` pixels around it, and is drawn with `width` x `height` pixels. `scripts`
    are always-visible scripts that take part.
    """

    prompt: str
    steps: int
    strength: float
    area: Image.Image
    touched: Image.Image
    padding: int
    width: int
    height: int
    scripts: tuple[Any, ...] = ()


def stopped() -> bool:
    """Whether the user has interrupted the job or skipped its picture."""
    return bool(shared.state.interrupted or shared.state.skipped)


@contextmanager
def between_passes(p: Any, renders: int) -> Iterator[None]:
    """Keep the host's state in this block, in which `renders` inner jobs are drawn between two passes of job `p`."""
    state, last_prompt = shared.state, host_api.data_folder() / "params.txt"
    before = {name: getattr(state, name) for name in _STATE if hasattr(state, name)}
    text = _read(last_prompt)
    state.job_count = max(state.job_count, 0) + renders  # the progress bar counts the inner jobs too
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(state, name, value)
        if text is not None and _read(last_prompt) != text:  # the page's button for the last prompt reads this file
            last_prompt.write_text(text, "utf-8")
        _merge_tokens(p)


def redraw(p: Any, number: int, picture: Image.Image, wanted: Redraw) -> Image.Image | None:
    """The picture after one inner job; `number` is that of the picture in job `p`. None if the user stopped it.

    Nothing is saved or shown by itself. Skipping ends this inner job only. Pixels outside the area are unchanged.
    Raises: what the host raises.
    """
    state = shared.state
    # "Interrupt after the current picture" means this picture too, so it waits until the picture is finished.
    waiting = getattr(state, "stopping_generation", False)
    state.stopping_generation = False
    try:
        with closing(_job(p, number, picture, wanted)) as inner:
            processed = process_images(inner)
    finally:
        state.stopping_generation = waiting or state.stopping_generation
    if stopped() or not processed.images:  # none: "after the current picture" came before the host had begun
        state.skipped = False
        return None
    redrawn = processed.images[processed.index_of_first_image]
    if redrawn.size != picture.size:
        raise CLoRAError(f"the WebUI gave {redrawn.size[0]} x {redrawn.size[1]} pixels instead of the whole picture")
    return Image.composite(redrawn.convert("RGB"), picture, wanted.area)


def _job(p: Any, number: int, picture: Image.Image, wanted: Redraw) -> Any:
    """The inner job. Its mask is what is touched, so that the edge is blended once, by the area."""
    inner = StableDiffusionProcessingImg2Img(
        prompt=wanted.prompt, negative_prompt=p.all_negative_prompts[number], styles=[], seed=p.all_seeds[number],
        subseed=p.all_subseeds[number], steps=wanted.steps, denoising_strength=wanted.strength, batch_size=1, n_iter=1,
        width=wanted.width, height=wanted.height, init_images=[picture], mask=wanted.touched, mask_blur=0,
        inpainting_fill=1, inpaint_full_res=True, inpaint_full_res_padding=wanted.padding, resize_mode=0,
        restore_faces=False, do_not_save_samples=True, do_not_save_grid=True, do_not_reload_embeddings=True,
        override_settings={
            name: value for name, value in _OPTIONS.items() if host_api.option(name, value) != value
        },
        **{name: getattr(p, name) for name in _OF_THE_JOB if hasattr(p, name)},
    )  # fmt: skip
    inner.is_api, inner.user = getattr(p, "is_api", False), getattr(p, "user", None)
    runner = copy(p.scripts)
    runner.alwayson_scripts, runner.callback_map = [*scripts_of_inner_job(p), *wanted.scripts], {}
    inner.scripts, inner.script_args = runner, p.script_args
    return inner


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _merge_tokens(p: Any) -> None:
    """Token merging for the next batches: AUTOMATIC1111 turns it off at the end of any job, Forge on in every pass."""
    if hasattr(p.sd_model, "forge_objects") or not hasattr(p, "get_token_merging_ratio"):
        return
    ratio = p.get_token_merging_ratio()
    if ratio:
        from modules import sd_models

        sd_models.apply_token_merging(p.sd_model, ratio)
