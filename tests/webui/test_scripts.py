"""Scripts that the user selects in the host (SD upscale, Prompt matrix, X/Y/Z plot): they make their own picture out
of the pictures of inner jobs, so that nothing else may be among these."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.webui.standin_host import FEW, PROMPT, Host

SHOWN = {**FEW, "show_masks": True, "show_maps": True, "show_loss": True}


class Upscaler:
    """Draws tiles, one job each, and pastes them into one picture, as SD upscale does."""

    def __init__(self, host: Host) -> None:
        self.host, self.tiles = host, list[Any]()

    def title(self) -> str:
        return "SD upscale"

    def run(self, p: Any) -> Any:
        for _ in range(2):
            self.tiles += self.host.processing.process_images(p).images
        whole = Image.new("RGB", (sum(tile.width for tile in self.tiles), self.tiles[0].height))
        for number, tile in enumerate(self.tiles):
            whole.paste(tile, (number * self.tiles[0].width, 0))
        comments = "".join(f"{comment}\n" for comment in p.comments)
        return self.host.processing.Processed(p, [whole], ["text"], comments=comments)


class Matrix:
    """Draws all prompts in one job and expects a picture for each, as Prompt matrix does."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def title(self) -> str:
        return "Prompt matrix"

    def run(self, p: Any) -> Any:
        processed = self.host.processing.process_images(p)
        assert len(processed.images) == len(p.all_prompts)
        return processed


def test_a_script_gets_its_pictures_alone_and_the_others_are_saved(host: Host, tmp_path: Path) -> None:
    script = Upscaler(host)
    p = host.job(clora=SHOWN, script=script)
    p.outpath_samples = str(tmp_path)
    job = host.run(p)
    assert [tile.size for tile in script.tiles] == [(128, 128)] * 2
    assert job.processed.images[0].size == (256, 128)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 6  # masks, maps and the curve of both tiles
    assert all("clora" in file.name for file in files)
    notes = job.processed.comments
    assert notes.count("SD upscale") == 1
    assert str(tmp_path) in notes


def test_where_pictures_are_not_saved_a_note_says_how_to_see_them(host: Host, tmp_path: Path) -> None:
    script = Upscaler(host)
    p = host.job(clora={**SHOWN, "show_merge": True}, script=script)
    p.outpath_samples, p.do_not_save_samples = str(tmp_path), True
    job = host.run(p)
    assert len(script.tiles) == 2
    assert list(tmp_path.iterdir()) == []
    assert 'The script "SD upscale"' in job.processed.comments
    assert "without the script" in job.processed.comments


def test_nothing_to_show_is_no_note(host: Host) -> None:
    job = host.draw(clora=FEW, script=Upscaler(host))
    assert "SD upscale" not in job.processed.comments


def test_a_matrix_of_prompts(host: Host, tmp_path: Path) -> None:
    p = host.job([PROMPT, f"{PROMPT} at night"], SHOWN, script=Matrix(host))
    p.outpath_samples = str(tmp_path)
    assert len(host.run(p).processed.images) == 2
    assert len(list(tmp_path.iterdir())) == 6


def test_without_a_script_they_are_beside_the_pictures(host: Host, tmp_path: Path) -> None:
    p = host.job(clora=SHOWN)
    p.outpath_samples = str(tmp_path)
    assert len(host.run(p).processed.images) == 4
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------- X/Y/Z plot


class Plot:
    """Confirms the values of one axis, then draws a cell for each; a cell that fails is black, as in the hosts."""

    def __init__(self, host: Host, axis: Any, values: list[Any]) -> None:
        self.host, self.axis, self.values, self.cells = host, axis, values, list[Any]()

    def title(self) -> str:
        return "X/Y/Z plot"

    def run(self, p: Any) -> Any:
        self.axis.confirm(p, self.values)
        for value in self.values:
            cell = copy(p)
            self.axis.apply(cell, value, self.values)
            try:
                self.cells.append(self.host.processing.process_images(cell))
            except Exception:
                self.cells.append(None)
        comments = "".join(f"{comment}\n" for comment in p.comments)
        return self.host.processing.Processed(p, [Image.new("RGB", (8, 8))], ["text"], comments=comments)


def axis(label: str) -> Any:
    from clora.webui import xyz

    options: list[Any] = []

    def option(label: str, kind: type, apply: Any, **more: Any) -> Any:
        return SimpleNamespace(label=label, kind=kind, apply=apply, **more)

    xyz.add_axes(SimpleNamespace(axis_options=options, AxisOption=option))
    return next(one for one in options if one.label == f"[CLoRA] {label}")


@pytest.mark.parametrize(
    ("label", "values", "sentence"),
    [
        ("Mask threshold", [0.4, 7.0], "mask_threshold cannot be 7"),
        ("Method", ["clora", "magic"], "method cannot be .?magic"),
        ("Quality", ["sharp"], "no preset .?sharp"),
        ("Update until", [], "no values"),
        ("Quality", [], "no values"),
        ("Method", [""], "method cannot be"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_drawn(
    host: Host, label: str, values: list[Any], sentence: str
) -> None:
    from clora.hosts.host_api import RefusedError

    plot = Plot(host, axis(label), values)
    with pytest.raises(RefusedError, match=sentence) as refused:
        host.draw(clora=FEW, script=plot)
    assert refused.value.status_code == 422
    assert f"[CLoRA] {label}" in str(refused.value)
    assert plot.cells == []


def test_right_values_are_drawn(host: Host) -> None:
    # The host counts up in floats, a little beyond the largest value.
    plot = Plot(host, axis("Update until"), [0.0, 1.0000000000000002])
    host.draw(clora=FEW, script=plot)
    assert [cell is not None and len(cell.images) for cell in plot.cells] == [1, 1]
    assert plot.cells[0].latents[0].shape == plot.cells[1].latents[0].shape
    assert not (plot.cells[0].latents[0] == plot.cells[1].latents[0]).all()


@pytest.mark.parametrize("off", [{"enabled": False, **FEW}, (False,), ()])
def test_an_axis_of_clora_turns_it_on_and_says_so(host: Host, off: Any) -> None:
    plot = Plot(host, axis("Method"), ["merge", "composite"])
    job = host.draw(clora=off, script=plot)
    for cell, method in zip(plot.cells, plot.values, strict=True):
        assert f"CLoRA method: {method}" in cell.infotexts[0]
    assert "turned it on" in job.processed.comments
    assert "[CLoRA]" in job.processed.comments
