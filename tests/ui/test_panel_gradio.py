"""The panel on a real page, in gradio 3.41.2 with A1111's accordion and in 4.40.0 with Forge's (see the Makefile)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from clora.settings import FORMER, GROUPS, PRESETS, SETTINGS, Settings

ROOT = Path(__file__).parents[2]
BEGUN = '<span class="clora-begun"></span>'
HOSTS = {"3.41.2": "a1111", "4.40.0": "forge"}


def _folder(version: str) -> Path:
    return Path(sys.prefix) / f"gradio-{version}"


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Page:
    """A process that builds and serves a page, and what it found."""

    version: str
    process: subprocess.Popen[str] | None
    found: dict[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """What the page's process tells at its end."""
        if self.process is None:
            if sys.version_info >= (3, 13):
                pytest.skip(f"gradio {self.version} could not be installed on this Python, see what make test says")
            pytest.skip(f"gradio {self.version} is not in {_folder(self.version)}: make test puts it there")
        if self.found is None:
            output, errors = self.process.communicate(timeout=300)
            assert self.process.returncode == 0, errors
            self.found = json.loads(output.splitlines()[-1])
        assert self.found is not None
        return self.found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Page]]:
    """Both processes, which run at the same time."""
    started = {}
    for version, host in HOSTS.items():
        process = None
        if (_folder(version) / ".done").is_file():
            environment = {
                **os.environ, "PYTHONPATH": str(_folder(version)), "GRADIO_SERVER_PORT": str(_port()),
                "GRADIO_ANALYTICS_ENABLED": "False", "NO_PROXY": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1",
                "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("gradio")),
            }  # fmt: skip
            command = [sys.executable, "-m", "tests.ui.panel_in_gradio", host, str(tmp_path_factory.mktemp("loras"))]
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        started[version] = Page(version, process)
    yield started
    for page in started.values():
        if page.process is not None and page.process.poll() is None:
            page.process.kill()
            page.process.communicate()


@pytest.fixture(params=HOSTS)
def page(request: pytest.FixtureRequest, pages: dict[str, Page]) -> dict[str, Any]:
    return pages[request.param].facts()


def test_it_is_the_version_meant(page: dict[str, Any], request: pytest.FixtureRequest) -> None:
    assert page["gradio"] in request.node.name
    assert (page["script classes"], page["title"]) == (1, "CLoRA")
    assert page["page"] > 1000


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_one_input_for_each_setting(page: dict[str, Any], tab: str) -> None:
    inputs = page["inputs"][tab]
    assert [label for _, label, *_ in inputs[1:]] == [*page["labels"], "Corrections", None]
    names = ["", *(f"_{setting.name}" for setting in SETTINGS), "_corrections", "_planned"]
    assert [elem_id for _, _, elem_id, *_ in inputs] == [f"{tab}_clora{name}" for name in names]
    # The values came here as JSON: off, the defaults of the table, no corrections, no plan.
    assert [value for *_, value, _ in inputs] == [False, *page["defaults"], "", ""]
    assert all(unsaved for *_, unsaved in inputs[1:])
    kinds = {"bool": "Checkbox", "choice": "Dropdown", "fractions": "Textbox", "int": "Slider", "float": "Slider"}
    assert [kind for kind, *_ in inputs[1:-2]] == [kinds[setting.kind] for setting in SETTINGS]


def test_building_twice_gives_the_same_inputs(page: dict[str, Any]) -> None:
    for again in (*page["again"], page["without boxes"]):
        assert again == page["inputs"]["txt2img"]


def test_a_preset_sets_everything(page: dict[str, Any]) -> None:
    for name in (*PRESETS, *FORMER):
        settings = Settings(name)
        wanted = {setting.name: getattr(settings, setting.name) for setting in SETTINGS}
        shown = dict(zip(wanted, page["presets"][name], strict=True))
        assert {setting.name: setting.parse(shown[setting.name]) for setting in SETTINGS} == wanted
    assert page["presets"]["balanced"] == page["defaults"]


def test_user_presets(page: dict[str, Any]) -> None:
    own, built_in = page["own presets"], list(PRESETS)
    unchanged = [{"__type__": "update"}] * len(SETTINGS)
    ((said, enabled, preset, *controls),) = own["begin"]
    assert (said, enabled, controls) == (BEGUN, {"__type__": "update"}, unchanged)
    assert (preset["value"], _choices(preset)) == ("balanced", built_in)
    for name, sentence in (
        ("no name", "has no name"), ("built in", "&quot;paper&quot; is built in"), ("wrong value", "refine_at"),
    ):  # fmt: skip
        ((said, preset),) = own[name]
        assert "clora-problem" in said
        assert sentence in said
        assert preset == {"__type__": "update"}
    assert own["nothing written"]
    ((said, preset),) = own["saved"]
    assert "&lt;b&gt;mine" in said
    assert "<b>" not in said
    assert (preset["value"], _choices(preset)) == ("<b>mine", [*built_in, "<b>mine"])
    assert list(own["file"]) == ["<b>mine"]
    assert own["file"]["<b>mine"]["mask_threshold"] == page["changed"][page["labels"].index("Mask threshold")]
    assert own["chosen"] == ["", *page["changed"]]


def test_a_tab_starts_with_the_users_options(page: dict[str, Any]) -> None:
    own = page["own presets"]
    assert page["options"] == {
        "clora_begin_on": ["Start with CLoRA open and switched on", False, "Checkbox", ["clora", "CLoRA"]],
        "clora_begin_preset": ["Start with this quality", "balanced", "Dropdown", ["clora", "CLoRA"]],
    }
    ((said, enabled, preset, *controls),) = own["begin as wished"]
    assert (said, enabled["value"], preset["value"]) == (BEGUN, True, "<b>mine")
    assert [control["value"] for control in controls] == page["changed"]
    assert own["choices on the settings page"] == {"choices": [*PRESETS, "<b>mine"]}
    ((said, _),) = own["delete built in"]
    assert "built in" in said
    ((said, preset),) = own["deleted"]
    assert "Deleted &quot;&lt;b&gt;mine&quot;" in said
    # The settings stay, and they are not those of balanced.
    assert (preset["value"], _choices(preset)) == ("balanced (changed)", list(PRESETS))
    assert own["changed"][0][1] == "<b>mine (changed)"
    assert "no preset" in own["deleted again"][0][0]
    ((said, _, preset, *controls),) = own["begin without it"]
    assert said.startswith(BEGUN)
    assert "The preset &quot;&lt;b&gt;mine&quot; no longer exists" in said
    assert preset["value"] == "balanced"
    assert controls == [{"__type__": "update"}] * len(SETTINGS)
    ((said, *controls),) = own["chosen when gone"]
    assert "no longer exists" in said
    assert controls == [{"__type__": "update"}] * len(SETTINGS)


def test_former_names_of_presets_in_the_users_options(page: dict[str, Any]) -> None:
    """The drop-down of the settings page does not have them: gradio 4 would refuse to store the page."""
    own = page["own presets"]
    ((_, _, preset, *controls),) = own["begin with a former name"]
    assert preset["value"] == "exact"
    assert [control["value"] for control in controls] == page["presets"]["exact"]
    assert own["former name on the settings page"] == "exact"


def test_only_the_quality_is_seen_at_first(page: dict[str, Any]) -> None:
    seen = page["first sight"]
    settings = {f"txt2img_clora_{setting.name}" for setting in SETTINGS}
    assert seen["open"] is False
    assert seen["accordions"] == 0
    assert seen["headings"] == [*GROUPS, "Your presets"]
    own = {f"txt2img_clora_preset_{name}" for name in ("name", "save", "delete", "answer")}
    assert {*seen["inside"]} == settings | own | {"txt2img_clora_settings"}
    assert "txt2img_clora_preset" in seen["outside"]


@pytest.mark.parametrize(("language", "alike"), [("de_DE", {"Name", "Tokens"}), ("zh_CN", set()), ("ja_JP", set())])
def test_every_text_of_the_panel_is_translated(page: dict[str, Any], language: str, alike: set[str]) -> None:
    translated = json.loads((ROOT / "localizations" / f"{language}.json").read_text("utf-8"))
    hosts = {"Steps", "Prompt", "Generate", "Styles"}  # of the page that stands in for the host's
    options = {label for label, *_ in page["options"].values()}
    english = ({*page["texts"]} | options) - hosts - {"CLoRA", "LoRA"}
    assert english - {*translated} == set(), "not translated"
    assert {*translated} - english == set(), "left over"
    same = {text for text, other in translated.items() if text == other}
    assert same <= alike
    assert all(other.strip() == other and other for other in translated.values())


def _choices(update: dict[str, Any]) -> list[str]:
    """Names in a dropdown's update: gradio 4 has pairs of what is shown and the value."""
    return [choice if isinstance(choice, str) else choice[1] for choice in update["choices"]]


@pytest.mark.parametrize("name", ["read", "read in img2img"])
def test_the_prompt_is_read(page: dict[str, Any], name: str) -> None:
    ((cost, message, table, *_),) = page[name]
    assert "2 concepts will be composed" in cost
    assert "times the time of a plain picture" in cost
    assert message == ""
    assert table.count('<tr data-words="cat"') == table.count('<tr data-words="dog"') == 1
    assert table.count("from the text after its tag") == 2
    assert 'data-value="grass" data-loras=""' in table
    assert 'data-value="dog" data-loras="dog"' in table
    assert "<td>2</td></tr>" in table  # the token of the first one
    for key, value in {"words": 'value="cat"', "trigger": 'value=""'}.items():
        assert f'<input type="text" {value} data-lora="cat" data-key="{key}"' in table
    assert '<select data-lora="dog" data-key="role"' in table


def test_what_the_tag_sets_is_not_editable(page: dict[str, Any]) -> None:
    ((_, _, table, *_),) = page["said by the tag"]
    assert '<span title="Set in the tag.">cat</span>' in table
    assert 'data-lora="cat" data-key="words"' not in table
    assert 'data-lora="cat" data-key="role"' not in table
    assert 'data-lora="cat" data-key="trigger"' in table


def test_a_changed_cell_becomes_a_correction(page: dict[str, Any]) -> None:
    ((corrections, message),) = page["edited"]
    assert corrections == "dog: words=dog\ncat: words=grass"
    assert message["__type__"] == "update"
    ((corrections, _),) = page["emptied"]
    assert corrections == ""
    ((corrections, message),) = page["edited wrong"]
    assert corrections["__type__"] == "update"
    assert "cannot be read" in message


def test_the_table_is_written_into_the_prompt(page: dict[str, Any]) -> None:
    same = {"__type__": "update"}
    ((prompt, corrections, message),) = page["written"]
    assert prompt == "a <lora:cat:1:words=cat:trigger=sks> cat and a <lora:dog:1> dog on grass"
    assert (corrections, message) == ("cow: words=dog", same)
    ((prompt, corrections, message),) = page["nothing to write"]
    assert (prompt, corrections) == (same, same)
    assert "no changes" in message
    ((prompt, corrections, message),) = page["wrong to write"]
    assert (prompt, corrections) == (same, same)
    assert "&lt;b&gt;" in message
    assert "clora-problem" in message


def test_generating_reads_the_prompt_while_clora_is_on(page: dict[str, Any]) -> None:
    assert page["generate"] == page["read"]
    ((cost, message, table, *_),) = page["generate while off"]
    assert cost["__type__"] == message["__type__"] == table["__type__"] == "update"


def test_one_concept_in_a_place_is_counted(page: dict[str, Any]) -> None:
    ((cost, message, *_),) = page["read one in a place"]
    assert "1 concept will be composed" in cost
    assert message == ""


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("read wrong", "did you mean &quot;cat&quot;?"),
        ("read nothing", "is inactive for this prompt"),
        ("read with wrong setting", "refine_at"),
    ],
)
def test_errors_and_inactivity_are_shown(page: dict[str, Any], name: str, sentence: str) -> None:
    ((cost, message, table, *_),) = page[name]
    assert sentence in cost + message
    assert "will be composed" not in cost + message
    assert "Press" not in table


def test_the_cost_and_the_presets_name_follow_the_settings(page: dict[str, Any]) -> None:
    told = {name: answer[0] for name, answer in page["touched"].items()}
    assert told["as read"] == [page["read"][0][0], "balanced"]
    assert "2 concepts will be composed. About 1.2 times" in told["fast"][0]
    assert "2 concepts will be composed. About 1.6 times" in told["changed"][0]
    names = {name: preset for name, (_, preset) in told.items()}
    assert names == {
        "as read": "balanced", "a former name": "balanced", "fast": "fast", "changed": "fast (changed)",
        "changed back": "fast", "wrong": "balanced (changed)", "no preset": "balanced",
    }  # fmt: skip
    assert "clora-problem" in told["wrong"][0]
    assert page["touched without concepts"][1] == [["", "balanced"]]


def test_every_setting_notifies_the_script(page: dict[str, Any]) -> None:
    wanted = {f"{tab}_{name}" for tab in ("txt2img", "img2img")
              for name in ("steps", *(f"clora_{setting.name}" for setting in SETTINGS))}  # fmt: skip
    assert set(page["asks the page's script"]) == wanted


def test_a_correction_reads_the_prompt_again(page: dict[str, Any]) -> None:
    ((_, _, table, *_),) = page["read corrected"]
    assert '<tr data-words="grass"' in table


def test_the_table_has_every_row_after_a_wrong_correction(page: dict[str, Any]) -> None:
    ((cost, message, table, *_),) = page["read wrongly corrected"]
    assert cost == ""
    assert "cow" in message
    assert "clora-problem" in message
    assert '<input type="text" value="cow" data-lora="cat" data-key="words"' in table
    assert table.count('aria-invalid="true"') == 1
    assert '<tr data-words="dog"' in table
    ((_, _, table, *_),) = page["read wrong"]
    assert table.count("<tr data-words") == 2


def test_styles_and_comments_are_read_as_the_host_does(page: dict[str, Any]) -> None:
    ((cost, _, table, *_),) = page["read with a style"]
    assert "2 concepts will be composed" in cost
    assert '<tr data-words="dog"' in table
    assert page["route analyze styles"]["composes"]
    status, body = page["route analyze wrong styles"]
    assert (status, "list of at most" in body["detail"]) == (422, True)


def test_an_infotext_restores_every_setting(page: dict[str, Any]) -> None:
    assert all(page["restored order"])
    assert page["restored"] == [True, *page["changed"], "cat: words=cat"]
    assert all(a != b for a, b in zip(page["changed"], page["defaults"], strict=True))
    assert page["restored defaults"] == [True, *page["defaults"], ""]


def test_another_pictures_infotext_turns_clora_off_and_leaves_the_rest(page: dict[str, Any]) -> None:
    assert page["restored nothing"] == [False, *[None] * (len(SETTINGS) + 1)]


def test_a_value_that_cannot_be_read_leaves_its_control_alone(page: dict[str, Any]) -> None:
    values = dict(zip([setting.name for setting in SETTINGS], page["restored wrong"][1:], strict=False))
    assert values.pop("mask_threshold") is None
    assert None not in values.values()


def test_the_routes_answer(page: dict[str, Any]) -> None:
    assert {setting.name for setting in SETTINGS} <= set(page["route settings"])
    assert set(page["route version"]) == {"version"}
    assert page["route analyze"]["composes"]
    assert [row["tokens"] for row in page["route analyze"]["rows"]] == [[2], [5]]
    status, body = page["route analyze wrong"]
    assert (status, "prompt" in body["detail"]) == (422, True)


def test_jobs_by_the_panels_values(page: dict[str, Any]) -> None:
    assert page["jobs"] == {
        "off is as absent": True, "on is another picture": True, "on is the object's": True, "errors": [],
    }  # fmt: skip
