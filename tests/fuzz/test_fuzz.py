"""Hostile input for twenty seconds, and every fault that was found by it or by attacks before."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from clora.cli import output
from clora.cli.main import main
from clora.embedded import EMBEDDED_LORAS
from clora.errors import CLoRAError
from clora.evaluate.prompts import load_mapping, load_prompts
from clora.evaluate.store import Store
from clora.hosts.diffusers import Sampling, checkpoint, compose
from clora.lora.adapter import AdapterSettings
from clora.lora.file import LoraFile
from clora.lora.scale import Scales
from clora.page.paste import read_pasted
from clora.page.session import lora_folders, path_of
from clora.prompt import parse_tags
from clora.settings import Settings
from clora.ui.corrections import read_corrections
from clora.ui.request import read_request
from tests.fuzz.edges import Edges, WrongError, check_sentence, post
from tests.fuzz.run import fuzz
from tests.hosts.tiny import tiny_sd, write_lora

PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person"
"""With the names of two embedded LoRAs."""


def test_every_edge_answers_or_says_one_sentence() -> None:
    pytest.importorskip("fastapi")
    outcome = fuzz(20.0, seed=0)
    assert [(one.edge, one.seed, one.what) for one in outcome.findings] == []
    assert len(outcome.runs) == 13
    assert all(outcome.runs.values())


def test_a_foreign_error_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Edges, rng: Any) -> None:
        raise CLoRAError("x" * 5000) if rng.random() < 0.5 else KeyError("y")

    monkeypatch.setattr(Edges, "settings", broken)
    found = {one.what.split(":")[0].split("\n")[0] for one in fuzz(0, only=["settings"], count=20).findings}
    assert found == {"WrongError", "Traceback (most recent call last)"}
    for wrong in ("two\nlines", "please report it", "x" * 2000):
        with pytest.raises(WrongError):
            check_sentence(wrong)


# ------------------------------------------------------------------------------------------------ values and texts

DEEP = "[" * 1000 + "]" * 1000
HUGE = "9" * 5000
VALUES = {
    "nested corrections": lambda: read_corrections('{"cat":' + DEEP + "}"),
    "unclosed corrections": lambda: read_corrections("{" + "[" * 100_000),
    "corrections of nested values": lambda: read_corrections({"cat": json.loads(DEEP[500:1500])}),
    "an Arabic digit": lambda: Settings(step_size="٣"),
    "an underscore": lambda: Settings(refine_updates="1_0"),
    "many fractions": lambda: Settings(refine_at=[0.1] * 100_000),
    "an integer of 400 digits": lambda: Settings(refine_updates=int("9" * 400)),
    "an integer of 5000 digits": lambda: read_request([{"refine_updates": 10**5000}]),
    "an unknown field of 5000 letters": lambda: read_request([{"x" * 5000: 1}]),
    "a lone surrogate as a field": lambda: read_request([{"\ud800": 1}]),
    "a weight of 1e308": lambda: parse_tags("<lora:cat:1e308>"),
    "a weight of 1e6": lambda: parse_tags("<lora:cat:te=1e6>"),
    "an Arabic weight": lambda: parse_tags("<lora:cat:١>"),
    "a rank of 5000 digits": lambda: parse_tags(f"<lora:cat:1:dyn={HUGE}>"),
    "a long weight": lambda: parse_tags(f"<lora:cat:{'x' * 5000}>"),
    "a long role": lambda: parse_tags(f"<lora:cat:1:role={'x' * 5000}>"),
    "a long tag": lambda: parse_tags(f"<lora:{'x' * 5000}:0.8:nth=0>"),
    "a long place": lambda: parse_tags(f"<lora:cat:1:place={'x' * 5000}>"),
    "a folder of an unknown user": lambda: lora_folders("~nosuchuser/x"),
    "a folder of 5000 letters": lambda: lora_folders("a" * 5000),
    "a folder with NUL": lambda: lora_folders("a\0b"),
    "a path of an unknown user with a surrogate": lambda: path_of("~nosuch\ud800"),
    "a model of 5000 letters": lambda: checkpoint.load_pipeline(Path("a" * 5000)),
    "a model of an unknown user": lambda: checkpoint.load_pipeline(Path("~nosuchuser/x")),
    "a model that is a device": lambda: checkpoint.load_pipeline(Path("/dev/null")),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_ended_in_foreign_errors(case: str) -> None:
    with pytest.raises(CLoRAError) as error:
        VALUES[case]()
    check_sentence(str(error.value))
    assert len(str(error.value)) < 750


def test_a_tag_in_a_sentence_is_cut_at_80_characters() -> None:
    with pytest.raises(CLoRAError) as error:
        parse_tags(f"<lora:cat:1:nth=0:words={'x' * 500}>")
    assert "x" * 40 in str(error.value)
    assert "x" * 80 not in str(error.value)


@pytest.mark.parametrize("size", [HUGE, "9" * 9, "1000000", "٣"])
def test_pasted_sizes_that_no_picture_has_are_ignored(size: str) -> None:
    found = read_pasted(f"a cat\nSteps: 5, Size: {size}x64, Model: x", None)
    assert found is not None
    assert "width" not in found.values
    assert "Ignored: Size" in found.note


def test_an_alpha_of_400_digits_counts_as_none() -> None:
    config = '{"unet.lora_alpha": ' + "9" * 400 + ', "unet.alpha_pattern": {"a": ' + "9" * 400 + "}}"
    file = LoraFile("cat", Path("cat.safetensors"), {"lora_adapter_metadata": config}, {})
    scales = Scales(file.name, AdapterSettings(file))
    assert scales.scale_of("unet", "a", {})(4) == 1.0


@pytest.mark.parametrize(
    "content", [DEEP[:1000] * 100, '{"a": ' + HUGE + "}", '{"cat": {"lora": "x", "weight": NaN}}', "\ud800"]
)
@pytest.mark.parametrize("name", ["a.json", "a.toml"])
def test_files_of_an_evaluation(tmp_path: Path, content: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    for read in (load_mapping, lambda path: load_prompts(path.rename(path.with_suffix(".json")), {})):
        with pytest.raises(CLoRAError) as error:
            read(path)
        check_sentence(str(error.value))


def test_an_evaluation_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(CLoRAError, match="No space left"):
        store.put_picture("a", Image.new("RGB", (8, 8)), {})
    assert not store.has_picture("a")


# ------------------------------------------------------------------------------------------------ painted regions


def test_no_program_is_started_for_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow starts Ghostscript for EPS, whatever kind the data URL names."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", "gs")
    monkeypatch.setattr(subprocess, "check_call", lambda *args, **options: pytest.fail("started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n"
    for kind in ("png", "eps", "x-eps"):
        with pytest.raises(CLoRAError, match="is not an image"):
            read_corrections({"cat": {"place": f"data:image/{kind};base64,{base64.b64encode(eps).decode()}"}})


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_kinds_of_pictures_are_refused(kind: str) -> None:
    with pytest.raises(CLoRAError, match="PNG, JPEG or WebP"):
        read_corrections({"cat": {"place": data_url(Image.new("L", (8, 8), 255), kind)}})


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_kinds_of_pictures_are_read(kind: str) -> None:
    row = read_corrections({"cat": {"place": data_url(Image.new("L", (8, 8), 255), kind)}})["cat"]
    assert row.painted is not None


def test_a_large_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    url = data_url(Image.new("1", (8192, 8192), 1), "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *args: pytest.fail("decoded"))
    with pytest.raises(CLoRAError, match="larger than 4096 pixels"):
        read_corrections({"cat": {"place": url}})


def data_url(picture: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


# ------------------------------------------------------------------------------------------------ sampling, output


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny_sd()


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 1001}, {"steps": 10**400}, {"width": 10**6}, {"height": 10**9}, {"guidance_rescale": float("nan")},
        {"guidance_rescale": -1.0}, {"guidance_rescale": 5.0}, {"guidance": float("inf")}, {"width": -8},
    ],
    ids=str,
)  # fmt: skip
def test_sampling_values_that_cannot_be_used(pipe: Any, options: dict[str, Any]) -> None:
    with pytest.raises(CLoRAError) as error:
        Sampling(**options).checked(pipe)
    check_sentence(str(error.value))


def test_a_prompt_with_lone_surrogates_is_drawn(pipe: Any, tmp_path: Path) -> None:
    for seed, name in enumerate(("genie", "singer")):
        write_lora(tmp_path / f"{name}.safetensors", pipe, seed)
    settings = Settings("fast")
    made = [compose(pipe, PROMPT + odd, loras=tmp_path, steps=1, settings=settings) for odd in (" \ud800", " \ufffd")]
    assert made[0].images[0].tobytes() == made[1].images[0].tobytes()


def command(folder: Path, out: Path, *more: str) -> int:
    given = ["compose", PROMPT, "--steps=1", "--refine-updates=0", f"--out={out}", f"--lora-dir={folder}", *more]
    return main(given)


@pytest.fixture
def drawing(pipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command line with a tiny model; the folder of its LoRAs."""
    monkeypatch.setattr(checkpoint, "load_pipeline", lambda *args, **options: pipe)
    for seed, name in enumerate(("genie", "singer")):
        write_lora(tmp_path / f"{name}.safetensors", pipe, seed)
    return tmp_path


def sentence(capsys: Any) -> str:
    last = str(capsys.readouterr().err.splitlines()[-1])
    assert last.startswith("clora: ")
    check_sentence(last)
    return last


def full(*args: Any, **options: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "out", ["/proc/x.png", "a" * 300 + ".png", "a" * 250 + ".png", "x\0.png", "genie.safetensors/x.png"]
)
def test_an_output_that_cannot_be_written_is_found_before_sampling(drawing: Path, out: str, capsys: Any) -> None:
    before = sorted(drawing.rglob("*"))
    assert command(drawing, drawing / out) == 2
    told = capsys.readouterr().err
    assert "cannot be written" in told
    assert "step/s" not in told
    assert told.count("\n") == 1
    assert sorted(drawing.rglob("*")) == before


def test_a_picture_is_saved_elsewhere_if_its_disk_fills_up(
    drawing: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, target = drawing / "cwd", drawing / "full" / "x.png"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    real = output._save_whole

    def save(picture: Any, path: Path, **options: Any) -> None:
        return full() if path.parent == target.parent else real(picture, path, **options)

    monkeypatch.setattr(output, "_save_whole", save)
    assert command(drawing, target) == 2
    told = sentence(capsys)
    assert "No space left on device" in told
    saved = sorted(elsewhere.glob("clora-*.png"))
    assert len(saved) == 2
    assert all(str(path) in told for path in saved)


def test_a_picture_that_can_be_written_nowhere(drawing: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_save_whole", full)
    assert command(drawing, drawing / "x.png") == 2
    assert "anywhere else" in sentence(capsys)


def test_an_unexpected_error_is_one_sentence_with_a_file(
    drawing: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise KeyError("two\nlines \ud800")

    monkeypatch.setattr(checkpoint, "load_pipeline", broken)
    assert command(drawing, drawing / "x.png") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "CLoRA failed (KeyError" in told
    file = Path(told.rsplit(" is in ", 1)[1].strip().rstrip("."))
    assert "Traceback" in file.read_text("utf-8")
    file.unlink()


# ------------------------------------------------------------------------------------------------ the API

BODIES = {
    "a lone surrogate in the prompt": ('{"prompt": "\\ud800 a <lora:genie:1> sks person"}', 200),
    "a lone surrogate in corrections": ('{"prompt": "a", "corrections": {"\\udfff": {"words": "\\ud800"}}}', 200),
    "a lone surrogate as a field": ('{"prompt": "a", "\\ud800": 1}', 422),
    "nested corrections": ('{"prompt": "a", "corrections": "{' + DEEP + '"}', 200),
    "a nested body": ("[" * 100_000, 400),
    "a long prompt": ('{"prompt": "' + "a" * 200_000 + '"}', 422),
    "a huge integer": ('{"prompt": "a", "negative_prompt": ' + "9" * 4000 + "}", 422),
    "a weight of 5000 digits": ('{"prompt": "a <lora:genie:' + HUGE + '> sks person"}', 200),
}


@pytest.mark.parametrize("case", BODIES)
def test_bodies_that_ended_in_status_500(tmp_path: Path, case: str) -> None:
    pytest.importorskip("fastapi")
    body, expected = BODIES[case]
    status, answer = post(Edges(tmp_path).app, "/clora/v1/analyze", body.encode())
    assert status == expected, answer[:300]


def test_the_embedded_loras_have_the_names_of_the_prompt() -> None:
    assert {"genie", "singer"} <= {path.stem for path in EMBEDDED_LORAS.glob("*.safetensors")}
