"""Draws the pictures of a work list and measures time and memory, in this process or on a Ray cluster."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ..errors import CLoRAError
from ..hosts.diffusers import components_of, compose
from ..hosts.diffusers.checkpoint import load_pipeline
from ..lora.library import LoraLibrary
from ..models.lora import lora_targets
from ..models.memory import is_out_of_memory, peak_bytes, reset_peak
from ..prompt import LoraUse
from .work import Item, Studio


@dataclass(frozen=True)
class Drawn:
    """A picture as PNG, the seconds of the whole call, and the peak of the device's memory in bytes (None: a CPU)."""

    png: bytes
    seconds: float
    memory: int | None

    def picture(self) -> Image.Image:
        """The picture, decoded."""
        with Image.open(io.BytesIO(self.png)) as image:
            picture: Image.Image = image.convert("RGB")
        return picture


class Drawer:
    """Holds a pipeline and draws. All LoRAs are matched with the model at once, so that errors come before sampling."""

    def __init__(self, studio: Studio, uses: Sequence[LoraUse]) -> None:
        self.studio = studio
        self.pipe: Any = load_pipeline(studio.model, device=studio.device, prediction=studio.prediction)
        library = LoraLibrary(dict(studio.files))
        for use in uses:
            if warning := library.applied(use, lora_targets(components_of(self.pipe))).warning:
                print(warning, file=sys.stderr)

    def draw(self, item: Item) -> Drawn:
        """Draw one picture. Raises: CLoRAError naming the picture."""
        reset_peak(self.pipe.device)
        start = time.perf_counter()
        try:
            picture = self._picture(item)
        except CLoRAError as error:
            raise CLoRAError(f"While drawing {item.title}: {error}") from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise CLoRAError(
                f"Memory ran out while drawing {item.title}: omit this method, or limit its rows, as in "
                '"small:rows_per_forward=2".'
            ) from error
        took = time.perf_counter() - start
        png = io.BytesIO()
        picture.save(png, format="PNG")
        return Drawn(png.getvalue(), took, peak_bytes(self.pipe.device))

    def _picture(self, item: Item) -> Image.Image:
        s = self.studio
        composed = compose(
            self.pipe, item.prompt, loras=dict(s.files), negative_prompt=s.negative, seed=item.seed, steps=s.steps,
            guidance=s.guidance, width=s.width, height=s.height, settings=item.settings,
        )  # fmt: skip
        image: Image.Image = composed.images[0]
        return image


def draw_here(studio: Studio, uses: Sequence[LoraUse], items: Sequence[Item]) -> Iterator[tuple[Item, Drawn]]:
    """Draw the pictures one after another in this process."""
    drawer = Drawer(studio, uses)
    for item in items:
        yield item, drawer.draw(item)


class Worker:
    """A drawer in another process. It loads the model at its first picture and returns a CLoRAError as text."""

    def __init__(self, studio: Studio, uses: Sequence[LoraUse]) -> None:
        self._arguments = studio, uses
        self._drawer: Drawer | None = None

    def draw(self, item: Item) -> Drawn | str:
        """The picture, or the error message."""
        try:
            self._drawer = self._drawer or Drawer(*self._arguments)
            return self._drawer.draw(item)
        except CLoRAError as error:
            return str(error)


def draw_with_ray(
    studio: Studio, uses: Sequence[LoraUse], items: Sequence[Item], address: str | None
) -> Iterator[tuple[Item, Drawn]]:
    """Draw on a Ray cluster with one worker per GPU (one worker without GPUs); yields pictures as they finish.

    `address` is that of a running cluster ("auto": this machine's), None starts Ray on this machine. Each worker loads
    the model once; model and LoRAs must have the same paths on all machines.
    Raises: CLoRAError if Ray is not installed, or with a worker's error.
    """
    ray = import_ray()
    if not ray.is_initialized():
        ray.init(address=address, log_to_driver=False)
    try:
        gpus = int(ray.cluster_resources().get("GPU", 0)) if studio.device.startswith("cuda") else 0
        remote = ray.remote(num_gpus=1 if gpus else 0)(Worker)
        workers = [remote.remote(studio, list(uses)) for _ in range(min(max(gpus, 1), len(items)))]
        left = list(reversed(items))
        running = {worker.draw.remote(item): (worker, item) for worker in workers for item in [left.pop()]}
        while running:
            done, _ = ray.wait(list(running), num_returns=1)
            worker, item = running.pop(done[0])
            drawn = ray.get(done[0])
            if isinstance(drawn, str):
                raise CLoRAError(drawn)
            yield item, drawn
            if left:
                following = left.pop()
                running[worker.draw.remote(following)] = (worker, following)
    finally:
        ray.shutdown()


def import_ray() -> Any:
    """The ray package. Raises: CLoRAError if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise CLoRAError("--ray needs the package ray: run `pip install ray`, or omit --ray.") from error
    return ray
