"""The table of settings: what it accepts, refuses and writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clora.errors import CLoRAError
from clora.settings import FORMER, GROUPS, PRESETS, SETTINGS, START, Setting, Settings
from clora.settings.infotext import infotext, infotext_fields, read_infotext


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: s.name)
def test_every_setting_reads_back_its_text_and_names_its_range(setting: Setting) -> None:
    assert setting.parse(setting.text(setting.default)) == setting.default
    assert setting.parse(setting.default) == setting.default
    assert setting.help.endswith(".")
    for wrong in ("nonsense", None, [None], float("nan"), "inf", {}):
        with pytest.raises(CLoRAError, match=f"The setting {setting.name} cannot be .*: give "):
            setting.parse(wrong)


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.kind in ("int", "float")], ids=lambda s: s.name)
def test_ranges_are_closed(setting: Setting) -> None:
    assert setting.parse(setting.low) == setting.low
    assert setting.parse(str(setting.high)) == setting.high
    for wrong in (setting.low - 1, setting.high + 1, True):
        with pytest.raises(CLoRAError):
            setting.parse(wrong)


def test_whole_numbers_must_be_whole() -> None:
    assert Settings(refine_updates="7").refine_updates == 7
    with pytest.raises(CLoRAError, match="a whole number from 0 to 200"):
        Settings(refine_updates=1.5)


def test_fractions_as_text_and_list() -> None:
    assert Settings(refine_at="0, 0.5").refine_at == (0.0, 0.5)
    assert Settings(refine_at=[]).refine_at == ()
    assert Settings(refine_at="").refine_at == ()
    with pytest.raises(CLoRAError):
        Settings(refine_at="0, 1.5")


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(CLoRAError, match="did you mean step_size"):
        Settings(stepsize=3)
    with pytest.raises(CLoRAError, match="There is no preset 'papper'"):
        Settings("papper")


def test_settings_are_values() -> None:
    one = Settings("paper", step_size=3)
    assert one == Settings("paper").replace(step_size=3)
    assert one != Settings("paper")
    assert hash(one) == hash(Settings("paper", step_size=3.0))
    with pytest.raises(AttributeError):
        one.step_size = 4
    with pytest.raises(AttributeError):
        _ = one.stepsize
    assert "step_size" in repr(one)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid(preset: str) -> None:
    settings = Settings(preset)
    for name, value in PRESETS[preset].items():
        assert getattr(settings, name) == value


def test_the_presets_and_where_everything_starts() -> None:
    assert list(PRESETS) == ["fast", "balanced", "exact", "paper"]
    assert Settings() == Settings(START) == Settings("balanced")
    assert Settings().changed() == {}


@pytest.mark.parametrize(("former", "today"), [("default", "balanced"), ("best", "exact")])
def test_former_names_of_presets_are_read(former: str, today: str) -> None:
    assert FORMER[former] == today
    assert former not in PRESETS
    assert Settings(former, step_size=3) == Settings(today, step_size=3)


@pytest.mark.parametrize("wrong", ["papper", "Default", "", None, ["paper"], 3])
def test_a_wrong_preset_is_told_the_names_of_today(wrong: object) -> None:
    with pytest.raises(CLoRAError, match=r"give one of fast, balanced, exact, paper\.$"):
        Settings(wrong)


def test_every_setting_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(one.name for one in SETTINGS)


@pytest.mark.parametrize(
    "fields",
    [
        {"Steps": "5", "CFG scale": "3.5", "CLoRA": "on", "CLoRA refine at": "0, 0.5"},
        {"Steps": "5", "Seed": "3", "CLoRA corrections": 'cat: words=a "cat", trigger=x\ndog: place=C:\\'},
    ],
)
@pytest.mark.parametrize("negative", ["", "bad, Steps: 3", "two\nlines"])
def test_an_infotext_is_read_back(fields: dict[str, str], negative: str) -> None:
    prompt = "a <lora:cat:1:words=cat> cat,\non grass"
    found = read_infotext(infotext(prompt, negative, fields) + "\n")
    assert found is not None
    assert (found.prompt, found.negative, found.fields) == (prompt, negative, fields)


@pytest.mark.parametrize(
    "text", ["", "a cat", "Steps: 3", "a cat, Steps: 3, Seed: 4, Size: 8x8", "Steps: many, Seed: 4, Size: 8x8"]
)
def test_a_text_without_parameters_is_none(text: str) -> None:
    assert read_infotext(text) is None


def test_infotext_holds_only_what_differs() -> None:
    assert infotext_fields(Settings()) == {"CLoRA": "on"}
    fields = infotext_fields(Settings(step_size=5, refine_at=(0, 0.5)))
    assert fields == {"CLoRA": "on", "CLoRA update strength": "5", "CLoRA refine at": "0, 0.5"}
    text = infotext("a cat", "bad", {"Steps": 5, **fields})
    assert (
        text == 'a cat\nNegative prompt: bad\nSteps: 5, CLoRA: on, CLoRA update strength: 5, CLoRA refine at: "0, 0.5"'
    )


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for setting in SETTINGS:
        try:
            value = setting.parse(text)
        except CLoRAError:
            continue
        assert setting.parse(setting.text(value)) == value
