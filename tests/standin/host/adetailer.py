"""Our own small script that goes to work as ADetailer does: it repaints given boxes by inner jobs."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from modules import processing, scripts
from PIL import Image, ImageDraw

Box = tuple[int, int, int, int]


class Detailer(scripts.Script):
    """Repaints `boxes` of each picture, one inner job each; `prompt` is its own, empty for the picture's."""

    filename = "extensions/adetailer/scripts/!adetailer.py"

    def __init__(self, boxes: Sequence[Box], prompt: str = "") -> None:
        self.boxes, self.prompt = boxes, prompt
        self.jobs: list[Any] = []

    def title(self) -> str:
        """As in the host's list of scripts."""
        return "ADetailer"

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        """One inner job after the other on the picture, each with one copy of the job's runner."""
        if getattr(p, "_ad_disabled", False):
            return
        if p.batch_index == 0:
            p.scripts.call("postprocess", copy(p), processing.Processed(p, []))
        runner = copy(p.scripts)  # one for all boxes
        runner.alwayson_scripts = []  # its settings name no script of ours
        for box in self.boxes:
            mask = Image.new("L", pp.image.size)
            ImageDraw.Draw(mask).rectangle(box, fill=255)
            inner = processing.Processing([""], steps=2, width=64, height=64, cfg_scale=p.cfg_scale)
            whole = p.all_prompts[p.iteration * p.batch_size + p.batch_index]
            inner.prompt = self.prompt.replace("[PROMPT]", whole) or whole
            inner.image_mask = mask
            inner.scripts = runner
            inner._ad_inner = inner._ad_disabled = True
            self.jobs.append(inner)
            processing.process_images(inner)
            inner.runner_had = runner.alwayson_scripts
        last = p.batch_index == p.batch_size - 1
        if last and p.iteration < p.n_iter - 1:
            again = copy(p)
            p.scripts.before_process(again)
            p.scripts.call("process", again)
