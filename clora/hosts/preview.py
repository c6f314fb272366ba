"""Drawing over the host's live preview."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import sd_samplers_common, shared

from . import host_api


def draw_over(draw: Callable[[Any], Any]) -> None:
    """Show `draw(picture)` of the batch's first latent as the live preview, as often as the host is set to.

    To be called after an evaluation of the denoiser, when the host has stored that evaluation's latent. The latent is
    removed from the host's state, because the host would draw its own preview over this one. The host stores the next
    latent at the next evaluation, so its own previews return when this is not called any more.
    """
    latent = shared.state.current_latent
    every = host_api.option("show_progress_every_n_steps", 10)
    if latent is None or every <= 0 or not host_api.option("live_previews_enable", True):
        return
    shared.state.current_latent = None
    if shared.state.sampling_step % every:
        return
    try:
        picture = draw(sd_samplers_common.sample_to_image(latent))
    except Exception:  # as with the host's own preview, a picture that cannot be decoded does not end the job
        host_api.log_error("CLoRA's live preview failed")
        return
    shared.state.assign_current_image(picture)
