"""The command line on a tiny random model: what it writes, and one sentence for every mistake."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from clora.cli.main import build_parser, main
from clora.settings import FORMER, PRESETS, SETTINGS
from tests.hosts.tiny import tiny_sd, tiny_sdxl, write_lora

PROMPT = "a <lora:cat:1:trigger=sks> cat and a <lora:dog:0.8> dog"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, good LoRAs and bad ones."""
    folder = tmp_path_factory.mktemp("world")
    pipe = tiny_sd()
    pipe.save_pretrained(folder / "model")
    loras = folder / "loras"
    loras.mkdir()
    for seed, name in enumerate(("cat", "dog", "bird")):
        write_lora(loras / f"{name}.safetensors", pipe, seed)
    whole = (loras / "cat.safetensors").read_bytes()
    (loras / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (loras / "noise.safetensors").write_bytes(b"\xff" * 500)
    (loras / "pickled.safetensors").write_bytes(pickle.dumps({"a": 1}))
    save_file({"other.weight": torch.zeros(2, 2)}, loras / "stranger.safetensors")
    write_lora(loras / "big.safetensors", tiny_sdxl(), 1)
    torch.nn.init.constant_(pipe.unet.conv_out.weight, torch.nan)
    pipe.save_pretrained(folder / "nan")
    return folder


def clora(world: Path, tmp_path: Path, *arguments: str, model: str = "model") -> int:
    return main(
        ["compose", *arguments, "--model", str(world / model), "--lora-dir", str(world / "loras"), "--steps", "2",
         "--refine-updates", "1", "--out", str(tmp_path / "out" / "picture.png"), "--device", "cpu"]
    )  # fmt: skip


def test_missing_subjects_are_warned_about(world: Path, tmp_path: Path, capsys: Any) -> None:
    assert clora(world, tmp_path, PROMPT, "--mask-threshold", "1", "--look-ahead", "0") == 0
    assert 'The subject "cat" (cat) covers nothing of the image: try another seed' in capsys.readouterr().err
    assert clora(world, tmp_path, PROMPT.replace("=sks", "=sks:place=left"), "--mask-threshold", "1") == 0
    assert 'The subject "cat" (cat) was not found in its place (left)' in capsys.readouterr().err


def test_compose_writes_picture_masks_and_parameters(world: Path, tmp_path: Path, capsys: Any) -> None:
    assert clora(world, tmp_path, PROMPT, "--seed", "7", "--mask-threshold", "0.3", "--negative", "bad") == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["picture-masks.png", "picture.png"]
    assert capsys.readouterr().out.split() == [str(out / "picture.png"), str(out / "picture-masks.png")]
    with Image.open(out / "picture.png") as picture:
        assert picture.size == (128, 128)
        text = picture.text["parameters"]  # type: ignore[attr-defined]
    assert text.startswith(f"{PROMPT}\nNegative prompt: bad\nSteps: 2, CFG scale: 7.5, Seed: 7, Size: 128x128, ")
    assert "CLoRA: on, CLoRA refine updates: 1, CLoRA mask threshold: 0.3" in text


def test_the_same_seed_gives_the_same_picture(world: Path, tmp_path: Path) -> None:
    pixels = []
    for seed in ("1", "1", "2"):
        assert clora(world, tmp_path, PROMPT, "--seed", seed) == 0
        with Image.open(tmp_path / "out" / "picture.png") as picture:
            pixels.append(picture.tobytes())
    assert pixels[0] == pixels[1] != pixels[2]


@pytest.mark.parametrize("method", ["merge", "composite", "switch"])
def test_other_methods_write_one_picture(world: Path, tmp_path: Path, method: str) -> None:
    assert clora(world, tmp_path, PROMPT, "--method", method) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["picture.png"]


def test_progress_says_the_phase_and_the_loss(world: Path, tmp_path: Path, capsys: Any) -> None:
    clora(world, tmp_path, PROMPT, "--refine-at", "0", "--update-until", "0.5")
    shown = capsys.readouterr().err
    assert "refine 2/2, loss " in shown
    assert "fuse" in shown
    assert "2/2" in shown


def test_one_concept_renders_plainly_with_a_message(world: Path, tmp_path: Path, capsys: Any) -> None:
    assert clora(world, tmp_path, "a <lora:cat:1> cat") == 0
    assert "only one concept LoRA" in capsys.readouterr().err
    with Image.open(tmp_path / "out" / "picture.png") as picture:
        text = picture.text["parameters"]  # type: ignore[attr-defined]
    assert "Steps:" in text
    assert "CLoRA" not in text


MISTAKES = {
    "unknown LoRA": (["a <lora:kat:1> cat and a <lora:dog:1> dog"], ["kat", "cat"]),
    "truncated file": (["a <lora:cut:1> cat and a <lora:dog:1> dog"], ["cut"]),
    "corrupt file": (["a <lora:noise:1> cat and a <lora:dog:1> dog"], ["noise"]),
    "pickle": (["a <lora:pickled:1> cat and a <lora:dog:1> dog"], ["pickle"]),
    "no matching layer": (["a <lora:stranger:1> cat and a <lora:dog:1> dog"], ["stranger"]),
    "another model's shapes": (["a <lora:big:1> cat and a <lora:dog:1> dog"], ["big"]),
    "no words": (["<lora:cat:1:role=concept>, a <lora:dog:1> dog"], ["words="]),
    "words not in the prompt": (["a <lora:cat:1:words=tiger> cat and a <lora:dog:1> dog"], ["tiger"]),
    "weight is no number": (["a <lora:cat:heavy> cat and a <lora:dog:1> dog"], ["heavy"]),
    "weight is not finite": (["a <lora:cat:inf> cat and a <lora:dog:1> dog"], ["inf"]),
    "width": ([PROMPT, "--width", "130"], ["130", "128"]),
    "steps": ([PROMPT, "--steps", "-1"], ["-1"]),
    "setting out of range": ([PROMPT, "--temperature", "0"], ["temperature", "0.01"]),
    "setting of another kind": ([PROMPT, "--mask-scale", "maximum"], ["mask_scale", "max, range"]),
    "not a PNG": ([PROMPT, "--out", "/nowhere/picture.jpg"], [".png"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_errors_are_one_message_with_exit_code_2_and_no_output(
    world: Path, tmp_path: Path, capsys: Any, mistake: str
) -> None:
    arguments, named = MISTAKES[mistake]
    options = ["compose", "--model", str(world / "model"), "--lora-dir", str(world / "loras"), "--steps", "2",
               "--out", str(tmp_path / "out" / "picture.png"), "--device", "cpu"]  # fmt: skip
    assert main([*options, *arguments]) == 2
    shown = capsys.readouterr().err
    assert "step/s" not in shown  # no bar of a run that never began
    told = shown.splitlines()[-1]
    assert told.startswith("clora: ")
    assert told.endswith((".", "?"))
    assert all(word in told for word in named), told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "prompt",
    [
        "<lora:cat:1>, a <lora:dog:1> dog in <lora:bird:1>",
        "a <lora:cat:1> cat AND a <lora:dog:1> dog",
        "a <lora:cat:1> cat and a <lora:cat:0.5> dog",
        "a <lora:cat:0.5><lora:cat:0.5> cat and a <lora:dog:1> dog, <lora:bird:-1>",
    ],
)
def test_what_people_write_is_drawn(world: Path, tmp_path: Path, prompt: str) -> None:
    assert clora(world, tmp_path, prompt) == 0


def test_nan_in_the_model_is_an_error(world: Path, tmp_path: Path, capsys: Any) -> None:
    assert clora(world, tmp_path, PROMPT, model="nan") == 2
    assert "NaN" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_models_are_errors(world: Path, tmp_path: Path, capsys: Any) -> None:
    assert clora(world, tmp_path, PROMPT, model="nowhere.safetensors") == 2
    assert "nowhere.safetensors" in capsys.readouterr().err


def test_every_setting_that_works_outside_a_webui_is_an_option() -> None:
    parser = build_parser()
    for setting in SETTINGS:
        name = f"--{setting.name.replace('_', '-')}"
        arguments = ["compose", "a prompt", name, setting.text(setting.default)]
        if setting.webui_only:
            with pytest.raises(SystemExit):
                parser.parse_args(arguments)
            continue
        assert getattr(parser.parse_args(arguments), f"set_{setting.name}") == setting.text(setting.default)
    webui_only = {setting.name for setting in SETTINGS if setting.webui_only}
    getting_started = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text("utf-8")
    assert webui_only <= set(re.findall(r"`(\w+)`", getting_started))


def test_former_names_of_presets_are_read(capsys: Any) -> None:
    parser = build_parser()
    for name in PRESETS:
        assert parser.parse_args(["demo", "--preset", name]).preset == name
    for former, today in FORMER.items():
        assert parser.parse_args(["demo", "--preset", former]).preset == today
    assert parser.parse_args(["demo"]).preset == "balanced"
    with pytest.raises(SystemExit):
        parser.parse_args(["demo", "--preset", "exakt"])
    told = capsys.readouterr().err
    assert "exact" in told
    assert not any(former in told.partition("choose from")[2] for former in FORMER)


def test_the_module_returns_the_exit_code() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "clora.cli", "evaluate", "--seeds", "0"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("clora: --seeds is 0")
