"""The commands of the benchmark of characters from end to end; its model, LoRAs and judge are small and random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from benchmarks.characters import __main__ as command
from benchmarks.characters import eyes, sanity
from benchmarks.characters.methods import METHODS
from research.characters.judge.network import Networks
from research.characters.lessons import LESSONS
from research.characters.loras import add_lora
from research.characters.model import new_text_encoder, new_tokenizer
from research.characters.prompts import load_prompts
from research.shared.diffusion import pipeline, save
from research.shared.kohya import write

OF_EVERY_KIND = ("merge", "fast", "freefuse", "loratorio", "boxes")
NAMES = ("genie", "singer", "detective", "troll", "poodle", "peacock", "comic")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of all commands, with files of random weights; the pictures have 128 x 128 pixels."""
    folder = tmp_path_factory.mktemp("world")
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 8, 16, 16), layers_per_block=1, cross_attention_dim=64,
        attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), latent_channels=4, norm_num_groups=4,
    )  # fmt: skip
    pipe = pipeline(unet, new_text_encoder(), vae, new_tokenizer())
    save(pipe, folder / "model")
    fresh = add_lora(pipe, 1)
    for name in NAMES:
        for parameter in fresh:
            torch.nn.init.normal_(parameter, std=0.3)
        write(pipe, folder / "loras" / f"{name}.safetensors", {"modelspec.trigger_phrase": LESSONS[name].trigger})
    save_file(Networks().state_dict(), folder / "judge.safetensors")
    return ["--model", str(folder / "model"), "--loras", str(folder / "loras"), "--judge",
            str(folder / "judge.safetensors"), "--steps", "2"]  # fmt: skip


def _prompts(folder: Path) -> Path:
    pair = [{"kind": "person", "name": "genie", "style": None}, {"kind": "person", "name": "singer", "style": None}]
    texts = {
        "pair": "a <lora:genie:1> sks person and a <lora:singer:1> sks person",
        "riding": "a <lora:troll:1> sks person riding a <clora:turtle> turtle",
        "usual": "a <lora:genie:1> sks person and a fox",
        "refused": "a fox <lora:genie:1:words=cat> and a <lora:singer:1> sks person",
    }
    more = {"split": "report", "expect": pair, "style": None, "background": None, "relation": None}
    entries = [{"id": name, "group": "same class", "prompt": text, **more} for name, text in texts.items()]
    (folder / "prompts.json").write_text(json.dumps(entries))
    return folder / "prompts.json"


def test_the_benchmark_draws_with_every_kind_of_method(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*options, "--prompts", str(_prompts(tmp_path)), "--seeds", "1", "--out", str(tmp_path / "o")]
    arguments += ["--json", str(tmp_path / "r.json"), "--sheets", str(tmp_path / "s"), "--methods", *OF_EVERY_KIND]
    assert command.main(arguments) == 0
    printed = capsys.readouterr()
    told = json.loads((tmp_path / "r.json").read_text())
    assert set(told["groups"]["all"]) == {*OF_EVERY_KIND}
    assert all("difference" in told["groups"]["all"][name] for name in OF_EVERY_KIND[1:])
    assert told["run"]["prompts"] == ["pair", "riding", "usual"]
    assert told["run"]["as usual"] == ["usual"]
    assert set(told["run"]["refused"]) == {"refused"}
    assert all(f"| {METHODS[name].label} |" in printed.out for name in OF_EVERY_KIND)
    assert "refused is left out" in printed.err
    pictures = {path.read_bytes() for path in (tmp_path / "o" / "pictures").iterdir()}
    assert len(pictures) == 2 * len(OF_EVERY_KIND) + 1  # no two methods draw the same
    assert len(list((tmp_path / "s").iterdir())) == 1


def test_an_error_is_one_sentence(options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = [*options, "--judge", str(tmp_path / "none"), "--out", str(tmp_path / "o")]
    for main in (command.main, sanity.main):
        assert main(missing) == 1
        assert "judge's weights" in capsys.readouterr().err
    assert command.main([*options, "--out", str(tmp_path / "o")]) == 1
    assert "lacks LoRAs that the prompts name (gold, lava, mintcat" in capsys.readouterr().err
    assert command.main([*options, "--out", str(tmp_path), "--prompts", str(tmp_path / "none.json")]) == 1
    assert "none.json cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([*options, "--methods", "merge", "--against", "fast"])


def test_sanity_writes_sheets_and_a_table(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sanity, "seeds_of", lambda part: range(1))
    arguments = [*options, "--only", "genie", "comic", "merge", "--out", str(tmp_path / "o")]
    assert sanity.main([*arguments, "--sheets", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    for line in ("LoRA genie, alone | 4", "LoRA genie, in company | 4", "LoRA comic, on everything | 8",
                 "LoRA comic, on one subject | 8", "plain merge of two persons | 6"):  # fmt: skip
        assert f"| {line} |" in out
    assert "A plain merge blends two persons or loses one in " in out
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"genie.png", "comic.png", "merge.png"}
    assert Image.open(tmp_path / "s" / "genie.png").size == (12 * 160, 160)


def test_labels_by_eye(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = load_prompts(_prompts(tmp_path))
    monkeypatch.setattr(eyes, "load_prompts", lambda: prompts)
    folder = tmp_path / "eyes"
    arguments = [*options, "--folder", str(folder), "--out", str(tmp_path / "o")]
    blind = [*arguments, "--judge", str(tmp_path / "none"), "--methods", "merge", "fast", "--seeds", "2"]
    assert eyes.main(["draw", *blind, "--count", "99"]) == 1
    assert "only 10 different pictures" in capsys.readouterr().err  # the usual one is the same with both methods
    assert eyes.main(["draw", *blind, "--count", "10"]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [eyes.KEY, "labels.json", "sheet-01.png"]
    assert "fast" not in (folder / "labels.json").read_text()
    assert eyes.main(["draw", *blind, "--count", "10"]) == 1  # labels are not overwritten
    assert eyes.main(["compare", *arguments]) == 1
    assert "No picture is labelled" in capsys.readouterr().err
    labels = {str(number): {"present": False, "right": False} for number in range(1, 6)}
    (folder / "labels.json").write_text(json.dumps(labels))
    assert eyes.main(["compare", *arguments]) == 0
    assert "5 pictures are labelled.\n" in capsys.readouterr().out
    for path in (tmp_path / "o" / "pictures").iterdir():
        path.unlink()
    assert eyes.main(["compare", *arguments]) == 1
    assert "are not in" in capsys.readouterr().err
