"""Persons in given places and the detail pass: what is counted, and what a WebUI would cut out."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image

from benchmarks.characters.base_alone import GROUPS, has_look, in_own_words, one_at_a_time, split, tell
from benchmarks.characters.base_alone import prompts as prompts_of_base
from benchmarks.characters.detail_pass import Measured, lines, look_guided, own_share, rectangle, smaller
from benchmarks.characters.in_places import LAYOUTS, line, prompts, stands
from benchmarks.characters.methods import PLAIN
from benchmarks.characters.pairs import beside, outcomes, sides
from benchmarks.characters.pairs import lines as pair_lines
from benchmarks.characters.run import Result
from clora.errors import CLoRAError
from clora.hosts.diffusers.checkpoint import load_pipeline
from clora.pictures.detail_area import crop_of, detail_area
from clora.prompt import analyze
from research.characters.prompts import Instance, Prompt
from research.characters.words import CHARACTERS, WORDS
from tests.benchmarks.characters import seen as finding
from tests.benchmarks.characters import verdict


def test_every_ordered_pair_has_every_layout() -> None:
    drawn = prompts()
    assert len({one.id for one in drawn}) == len(drawn) == 12 * len(LAYOUTS) == 60
    for one in drawn:
        assert all(concept.region is not None for concept in analyze(one.prompt).concepts)


@pytest.mark.parametrize(("name", "x", "place", "stood"), [
    ("genie", 60, "left", True), ("genie", 190, "left", False), ("singer", 60, "left", False),
    ("genie", 190, "50 0 50 100", True),
])  # fmt: skip
def test_only_the_own_look_with_its_middle_inside_counts(name: str, x: int, place: str, stood: bool) -> None:
    assert stands("genie", place, verdict(finding(name, x), finding("fox", 128))) is stood


def test_a_line_has_the_share_and_its_interval() -> None:
    name, share, interval, count = line("x", [True] * 9 + [False])
    assert (name, share, count) == ("x", "90 %", "10")
    low, high = (int(part) for part in interval.removesuffix(" %").split(" to "))
    assert 50 < low < 90 < high <= 100


def test_pictures_of_one_prompt_that_are_alike_count_less() -> None:
    values = [True] * 16 + [False] * 4
    apart, together = (line("x", values, names) for names in ("abcdefghijklmnopqrst", "aabbccddeeffgghhiijj"))
    assert apart[1] == together[1] == "80 %"
    assert apart[3] == together[3] == "20"
    widths = [
        int(high) - int(low) for low, high in (one[2].removesuffix(" %").split(" to ") for one in (apart, together))
    ]
    assert widths[0] < widths[1]


@pytest.mark.parametrize(("left", "top"), [(10, 10), (0, 20), (20, 24)])
def test_the_cut_part_holds_the_area_and_has_the_crops_proportions(left: int, top: int) -> None:
    mask = torch.zeros(1, 32, 32)
    mask[0, top : top + 8, left : left + 10] = 1
    area = detail_area(mask, 0, (256, 256))
    crop = crop_of(area, 256)
    x, y, right, bottom = rectangle(area, crop)
    inner = area.getbbox()
    assert inner is not None
    assert 0 <= x <= inner[0] < inner[2] <= right <= 256
    assert 0 <= y <= inner[1] < inner[3] <= bottom <= 256
    assert (right - x) / (bottom - y) == pytest.approx(crop.width / crop.height, rel=0.05)


def test_the_own_share_is_that_of_the_finding_that_is_most_like_it() -> None:
    prompt = Prompt("a", "same class", "report", "", (Instance("person", "genie"), Instance("person", "singer")))
    assert own_share(prompt, verdict(finding("genie"), finding("fox", 190))) == pytest.approx(
        finding("genie").shares["genie"] / 2
    )
    assert own_share(prompt, verdict()) == 0.0


def test_what_gets_no_worse_is_counted() -> None:
    better = Measured(own=(0.5, 0.9), other=(0.2, 0.1), like=(0.5, 0.6), like_other=(0.5, 0.7))
    leaks = Measured(own=(0.5, 0.9), other=(0.1, 0.2), like=(0.5, 0.6), like_other=(0.5, 0.3))
    worse = Measured(own=(0.9, 0.5), other=(0.2, 0.1), like=(0.6, 0.5), like_other=(0.5, 0.3))
    rows = {row[0]: row[1:] for row in lines([better, better, leaks, worse])}
    assert rows["probability of the own name"] == ["0.600", "0.800", "75 % of 4"]
    assert rows["likeness to own references"] == ["0.525", "0.575", "75 % of 4"]
    assert rows["probability of the other's name (leak)"] == ["0.175", "0.125", "75 % of 4"]
    assert rows["likeness to the other's references"] == ["0.500", "0.500", "50 % of 4"]
    assert rows["the last three together"] == ["", "", "50 % of 4"]


def test_an_empty_area_has_the_whole_picture_as_its_part() -> None:
    assert Image.new("L", (4, 4)).getbbox() is None
    assert rectangle(Image.new("L", (64, 64)), crop_of(Image.new("L", (64, 64)), 64)) == (0, 0, 64, 64)


def test_subjects_are_made_smaller_and_lose_what_the_autoencoder_loses() -> None:
    pipe = load_pipeline(None)
    picture = Image.effect_noise((256, 128), 90).convert("RGB")
    assert smaller(pipe, picture, 1) is picture
    small = smaller(pipe, picture, 2)
    assert small.size == (128, 64)
    assert small.tobytes() != picture.resize((128, 64), Image.Resampling.LANCZOS).tobytes()
    assert small.tobytes() == smaller(pipe, picture, 2).tobytes()


def a_prompt(text: str, *names: str) -> Prompt:
    expect = tuple(Instance(CHARACTERS[name].kind if name in CHARACTERS else name, name) for name in names)
    return Prompt("a", "three", "report", text, expect)


CROWD = a_prompt(
    "a photo of a <lora:genie:1> sks person, a fox and a <lora:tabby:1:trigger=sks> cat", "genie", "fox", "tabby"
)


def test_the_base_reads_its_own_words_only() -> None:
    found = in_own_words(CROWD)
    assert found.prompt == "a photo of a ninja, a fox and a cat"
    assert [one.name for one in found.expect] == ["ninja", "fox", "cat"]
    two = in_own_words(a_prompt("<lora:troll:1> sks person and a <lora:tabby:1> sks cat with a cat", "troll", "tabby"))
    assert two.prompt == "an elf and a cat with a cat"
    for one in prompts_of_base():
        own = in_own_words(one)
        assert "sks" not in own.prompt
        assert "<" not in own.prompt
        assert "a a " not in own.prompt
        assert all(subject.name in WORDS and subject.name in own.prompt for subject in own.expect)
    assert {one.group for one in prompts_of_base()} == set(GROUPS)


def test_composed_pictures_are_split_by_what_base_and_loras_can_draw(capsys: pytest.CaptureFixture[str]) -> None:
    values = [("four", True), ("four", False), ("three", True), ("three", True)]
    tell(split(values, [True, False, False, True]))
    can, cannot = (part.splitlines() for part in capsys.readouterr().out.strip().split("\n\n"))
    assert [cells(row)[::3] for row in can[2:]] == [["three", "1"], ["four", "1"], ["all", "2"]]
    assert [cells(row)[:2] for row in cannot[2:]] == [["three", "100 %"], ["four", "0 %"], ["all", "50 %"]]


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_one_lora_at_a_time_leaves_the_others_to_the_base() -> None:
    assert [one.prompt for one in one_at_a_time(CROWD)] == [
        "a photo of a <lora:genie:1> sks person, a fox and a cat",
        "a photo of a person, a fox and a <lora:tabby:1:trigger=sks> cat",
    ]
    assert [[subject.name for subject in one.expect] for one in one_at_a_time(CROWD)] == [["genie"], ["tabby"]]
    own = one_at_a_time(CROWD)[1]
    seen = [verdict(finding("fox"), finding(name, 190)) for name in ("tabby", "genie")]
    assert [has_look(Result(own, 0, "merge", "", 0.0, one)) for one in seen] == [True, False]


def test_a_pair_is_better_where_the_answer_is_the_side_of_the_method() -> None:
    key = {"1": "left", "2": "left", "3": "right", "4": "right"}
    found = outcomes(key, {"1": "left", "2": "right", "3": "same", "4": "right"})
    assert found == ["better", "worse", "same", "better"]
    assert [row[1] for row in pair_lines(found)] == ["50 %", "25 %", "75 %"]
    with pytest.raises(CLoRAError, match="pairs 2, 4 need"):
        outcomes(key, {"1": "left", "2": None, "3": "same", "4": "both"})


def test_a_pair_is_drawn_from_the_method_or_one_lora_and_a_plain_picture() -> None:
    (own, how), (plain, plainly) = sides(CROWD, "default", "lora")
    assert (own, how.name, plainly.name) == (CROWD, "default", PLAIN.name)
    assert plain == one_at_a_time(CROWD)[0]
    (own, how), (plain, plainly) = sides(CROWD, "lora", "words")
    assert (own, plain) == (one_at_a_time(CROWD)[0], in_own_words(CROWD))
    assert how is plainly is PLAIN


def test_a_pair_shows_both_pictures_whole() -> None:
    found = beside(Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue"))
    assert found.size == (48, 48)
    assert sorted(count for count, _ in found.getcolors()) == [400, 400, 48 * 48 - 800]
    assert (found.getpixel((0, 24)), found.getpixel((47, 24))) == ((255, 0, 0), (0, 0, 255))


def test_the_detail_pass_has_a_share_of_the_lora_in_the_unconditional_half() -> None:
    class Unet(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, time: int, text: torch.Tensor, return_dict: bool) -> tuple[torch.Tensor]:
            return (self.inner(x) + text,)

    torch.manual_seed(0)
    unet, x, text = Unet(), torch.randn(2, 4), torch.randn(2, 4)
    (plain,) = unet(x, 0, text, return_dict=False)
    inject_adapter_in_model(LoraConfig(target_modules=["inner"], r=2, init_lora_weights=False), unet)
    (full,) = unet(x, 0, text, return_dict=False)
    with look_guided(unet, 0.25):
        (found,) = unet.forward(x, 0, text)
    torch.testing.assert_close(found[1], full[1])
    torch.testing.assert_close(found[0], plain[0] + 0.25 * (full[0] - plain[0]))
    torch.testing.assert_close(unet(x, 0, text, return_dict=False)[0], full)
