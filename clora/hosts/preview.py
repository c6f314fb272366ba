"""The host's live preview with something drawn over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modules import sd_samplers_common, shared

from . import host_api


def draw_over(draw: Callable[[Any], Any]) -> None:
    """Show `draw(picture)` of the first latent that the host would preview now, as often as the host is set to.

    Called after an evaluation of the denoiser, when the host has stored that evaluation's latent. The latent is taken
    from the host, which would else draw its own preview over this one; it stores the next at the next evaluation, so
    its own previews come back as soon as nobody calls this.
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
    except Exception:  # as for the host's own preview: a picture that cannot be decoded now is no reason to end the job
        host_api.log_error("CLoRA's live preview failed")
        return
    shared.state.assign_current_image(picture)
