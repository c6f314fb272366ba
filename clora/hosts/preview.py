"""Drawing over the host's live preview."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from modules import sd_samplers_common, shared

from . import host_api

SHARE = 0.03
"""Part of a pass's time that drawing over previews may take; then the host's own previews are left as they are."""


class PreviewOverlay:
    """What is drawn over the live previews of one pass, for at most `SHARE` of its time.

    The time includes decoding the preview, which the host would do by itself only while a page looks at it.
    """

    def __init__(self) -> None:
        self._begun, self._spent, self._last, self._failed = time.monotonic(), 0.0, 0.0, False

    def draw(self, over: Callable[[Any], Any]) -> None:
        """Show `over(picture)` of the batch's first latent as the live preview, as often as the host is set to.

        To be called after an evaluation of the denoiser, when the host has stored that evaluation's latent. The latent
        is removed from the host's state, because the host would draw its own preview over this one. The host stores the
        next latent at the next evaluation, so its own previews return when this is not called any more.
        """
        latent, started = shared.state.current_latent, time.monotonic()
        every = host_api.option("show_progress_every_n_steps", 10)
        if latent is None or every <= 0 or not host_api.option("live_previews_enable", True):
            return
        if self._failed or self._spent + self._last > SHARE * (started - self._begun):
            return
        shared.state.current_latent = None
        if shared.state.sampling_step % every:
            return
        try:
            picture = over(sd_samplers_common.sample_to_image(latent))
        except Exception:  # as with the host's own preview, a picture that cannot be decoded does not end the job
            self._failed = True
            host_api.log_error("CLoRA's live preview failed")
            return
        finally:
            self._last = time.monotonic() - started
            self._spent += self._last
        shared.state.assign_current_image(picture)
