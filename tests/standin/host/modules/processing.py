"""One job in the order in which a WebUI goes through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import networks
import torch
from PIL import Image

from modules import paths_internal, sd_models, shared
from modules.sd_samplers_common import sample_to_image
from modules.tiny_img2img import StableDiffusionProcessingImg2Img
from modules.tiny_job import Processed, Processing

__all__ = ["Processed", "Processing", "StableDiffusionProcessingImg2Img", "process_images"]


def process_images(p: Processing) -> Processed:
    """Run a job. What is raised outside of scripts ends it."""
    p.scripts.before_process(p)
    with _options(p):
        return _process_images(p)


@contextmanager
def _options(p: Processing) -> Iterator[None]:
    """The job's own options and token merging, for the time of the job."""
    before = {name: getattr(shared.opts, name) for name in p.override_settings}
    vars(shared.opts).update(p.override_settings)
    sd_models.apply_token_merging(shared.sd_model, p.get_token_merging_ratio())
    try:
        yield
    finally:
        sd_models.apply_token_merging(shared.sd_model, 0)
        vars(shared.opts).update(before)


def _process_images(p: Processing) -> Processed:
    p.settle()
    torch.manual_seed(p.all_seeds[0])
    p.scripts.call("process", p)
    processed, state = Processed(p, []), shared.state
    with ExitStack() as stack:
        if hasattr(shared.sd_model, "forge_objects"):
            stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.no_grad())
        p.init()
        if state.job_count == -1:
            state.job_count = p.n_iter
        for number in range(p.n_iter):
            p.iteration = number
            state.skipped = False
            if state.interrupted or state.stopping_generation:
                break
            _draw_batch(p, processed)
    if not processed.infotexts:
        processed.infotexts.append(_infotext(p, 0))
    processed.comments = "".join(f"{comment}\n" for comment in p.comments)
    p.scripts.call("postprocess", p, processed)
    return processed


def _draw_batch(p: Processing, processed: Processed) -> None:
    own = slice(p.iteration * p.batch_size, (p.iteration + 1) * p.batch_size)
    p.prompts, p.negative_prompts = p.all_prompts[own], p.all_negative_prompts[own]
    p.seeds = p.all_seeds[own]
    p.scripts.call("before_process_batch", p, batch_number=p.iteration, prompts=p.prompts)
    p.parse_extra_network_prompts()
    networks.activate(p, p.extra_network_data)
    p.scripts.call("after_extra_networks_activate", p, batch_number=p.iteration, prompts=p.prompts)
    p.scripts.call("process_batch", p, batch_number=p.iteration, prompts=p.prompts)
    if p.iteration == 0 and paths_internal.data_path != ".":  # tests leave nothing in their own folder
        Path(paths_internal.data_path, "params.txt").write_text(_infotext(p, 0), "utf-8")
    if p.n_iter > 1:
        shared.state.job = f"Batch {p.iteration + 1} out of {p.n_iter}"
    samples = p.sample(prompts=p.prompts)
    if getattr(samples, "already_decoded", False):
        latents, images = torch.stack(samples), [Image.new("RGB", one.shape[:0:-1]) for one in samples]
    else:
        latents, images = samples, [sample_to_image(samples, image) for image in range(len(samples))]
    shared.state.nextjob()
    p.scripts.call("postprocess_batch", p, images, batch_number=p.iteration)
    for p.batch_index, image in enumerate(images):
        pp = SimpleNamespace(image=image)
        p.scripts.postprocess_image(p, pp)
        processed.images.append(p.finished(pp.image))
        processed.infotexts.append(_infotext(p, own.start + p.batch_index))
    processed.latents += [latent.detach().clone() for latent in latents]


def _infotext(p: Processing, number: int) -> str:
    fields = {"Steps": p.steps, "Sampler": p.sampler_name, **p.extra_generation_params}
    if p.enable_hr and p.all_hr_prompts[number] != p.all_prompts[number]:
        fields["Hires prompt"] = p.all_hr_prompts[number]
    return p.all_prompts[number] + "\n" + ", ".join(f"{name}: {value}" for name, value in fields.items())
