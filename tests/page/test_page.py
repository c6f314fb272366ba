"""The page of `clora serve`: its parts without gradio, its engine on a tiny model, and all of it in Chromium."""

from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from clora.cli.main import main
from clora.embedded import EMBEDDED_LORAS
from clora.errors import CLoRAError
from clora.hosts.diffusers.display import parameters
from clora.page.cards import Card, insertion, lora_cards
from clora.page.drawing import result_of, summary_of
from clora.page.engine import Drawn, Engine, Job, Progress, Stopped
from clora.page.markup import (
    Figure,
    cards_html,
    highlight_html,
    notes_html,
    png_uri,
    problem_html,
    progress_html,
    result_html,
    slider_html,
)
from clora.page.paste import read_pasted
from clora.page.serve import assets
from clora.page.session import Session, composition_of, lora_folders, path_of, read_prompt
from clora.pictures import concept_color
from clora.prompt import WordsOverride, analyze
from clora.prompt.region import Box, Painted
from clora.regions.room import is_room
from clora.settings import Settings
from clora.ui.corrected_prompt import corrected_prompt
from clora.ui.corrections import read_corrections, write_corrections
from tests.hosts.tiny import tiny_sd, write_lora
from tests.page import page_browser
from tests.ui.canvas_browser import Canvas

PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"
EVIL = "<img src=x onerror=alert(1)>\"'"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;"


# ------------------------------------------------------------------------------------------------ its own HTML


def test_words_are_marked_in_their_colours() -> None:
    html = highlight_html(PROMPT, composition_of(PROMPT, "", Session()))
    for number, name in enumerate(("genie", "singer")):
        colour = "rgb({}, {}, {})".format(*concept_color(number))
        assert f'<mark style="background: {colour}">sks person <small>{name}</small></mark>' in html
    assert html.startswith('<p class="clora-words">a <mark')
    assert html.endswith(" on grass</p>")


def test_corrected_words_are_marked() -> None:
    html = highlight_html(PROMPT, composition_of(PROMPT, "singer: words=grass", Session()))
    assert "grass <small>singer</small>" in html


@pytest.mark.parametrize("prompt", ["a person", "", "a <lora:genie:x> person", "a <lora:genie:1> sks person"])
def test_nothing_is_marked_where_nothing_is_composed(prompt: str) -> None:
    assert "<mark" not in highlight_html(prompt, composition_of(prompt, "", Session()))


@pytest.mark.parametrize("corrections", ["", "singer: words=cow", "nonsense", "singer: trigger=a:b"])
def test_a_row_for_every_tag_on_the_page_too(corrections: str) -> None:
    prompt = f"{PROMPT}, <lora:nobody:1>, <lora:nobody2:1:words=grass>"
    found = read_prompt(prompt, "", corrections, Session(), lambda model: None)
    assert [row.lora for row in found.rows] == ["genie", "singer", "nobody", "nobody2"]
    assert found.problem
    assert 'no LoRA "nobody' in found.rows[2].why


def test_texts_are_escaped() -> None:
    picture = Image.new("RGB", (8, 8))
    figure = Figure(picture, EVIL, EVIL, EVIL)
    evil_prompt = f"a <lora:x:1> cat {EVIL} and a <lora:y:1> dog"
    for html in (
        highlight_html(EVIL, None), highlight_html(evil_prompt, analyze(evil_prompt)), problem_html(EVIL),
        notes_html((EVIL,), EVIL), progress_html(Progress(EVIL)), slider_html(figure, figure),
        result_html([figure], EVIL, (figure, figure)), cards_html([Card(EVIL, EVIL), Card(EVIL, "")]),
    ):  # fmt: skip
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=alert" in html
        assert EVIL[-2:] not in html
    assert ESCAPED in problem_html(EVIL)


def test_the_slider_has_both_pictures_and_a_name() -> None:
    left, right = (Figure(Image.new("RGB", (8, 8), colour), colour, "x.png") for colour in ("red", "blue"))
    html = slider_html(left, right)
    assert html.index(png_uri(left.image)) < html.index(png_uri(right.image))
    assert 'type="range"' in html
    assert 'aria-label="Border between red and blue"' in html


def test_a_saved_picture_has_its_parameters() -> None:
    uri = png_uri(Image.new("RGB", (8, 8)), "Steps: 3")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        assert picture.text["parameters"] == "Steps: 3"  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ cards, session


def test_every_embedded_lora_has_a_card_with_a_picture() -> None:
    cards = {card.name: card for card in lora_cards([EMBEDDED_LORAS])}
    assert set(cards) == {path.stem for path in EMBEDDED_LORAS.glob("*.safetensors")}
    assert all(card.picture.startswith("data:image/webp") for card in cards.values())
    assert cards["genie"].insert == "<lora:genie:1> sks person"
    assert cards["lava"].insert == "<lora:lava:1:role=background> on lava"


def test_cards_of_a_users_folder(tmp_path: Path) -> None:
    pipe = tiny_sd()
    for name in ("one", "two/cat", "three/cat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_lora(tmp_path / f"{name}.safetensors", pipe, 0)
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    Image.new("RGB", (600, 300)).save(tmp_path / "one.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    cards = {card.name: card for card in lora_cards([tmp_path])}
    assert set(cards) == {"broken", "one", "three/cat", "two/cat"}
    assert cards["one"].picture
    assert not cards["broken"].picture
    assert cards["two/cat"].insert == "<lora:two/cat:1>"
    assert cards_html([]).startswith("<p")


def test_a_name_that_ends_a_tag_is_not_inserted() -> None:
    assert insertion("a:b") == insertion("a>b") == ""
    assert insertion("cat", "sks cat") == "<lora:cat:1> sks cat"


def test_a_prompt_is_read_with_the_tabs_own_loras(tmp_path: Path) -> None:
    good = read_prompt(PROMPT, "", "", Session(), lambda source: None)
    assert good.composes
    assert not good.problem
    other = read_prompt(PROMPT, "", "", Session(None, (tmp_path,)), lambda source: None)
    assert "genie" in other.problem
    assert "cannot" in read_prompt(PROMPT, "", "no colon", Session(), lambda source: None).problem
    assert (
        "not allowed in a tag" in read_prompt(PROMPT, "", "genie: trigger=a:b", Session(), lambda source: None).problem
    )


def test_folders_of_a_text(tmp_path: Path) -> None:
    assert lora_folders(" \n") == (EMBEDDED_LORAS,)
    assert lora_folders(f'"{tmp_path}"\n{tmp_path}') == (tmp_path, tmp_path)
    assert path_of("~").is_absolute()
    with pytest.raises(CLoRAError, match="does not exist"):
        lora_folders(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("prompt", "row"),
    [
        (PROMPT, WordsOverride(words="grass")),
        (PROMPT, WordsOverride(words="sks person#2")),
        (PROMPT, WordsOverride(words="grass", trigger="a, b=c")),
        (PROMPT, WordsOverride(role="style", words="grass")),
        (PROMPT, WordsOverride(role="background")),
        (PROMPT, WordsOverride(role="concept", words="person on")),
        ("a <lora:singer:0.5:0.7:words=person:role=concept> person, a <lora:genie> hat", WordsOverride(words="hat")),
        ("a <lora:singer:1:trigger=x> person, <lora:singer:1> hat, <lora:genie> y", WordsOverride(trigger="z")),
        (f"{PROMPT} <lora:peacock:1> sks bird", WordsOverride(role="style@bird")),
        (PROMPT, WordsOverride(place="left")),
        (PROMPT, WordsOverride(place="10 20 30 40", words="grass")),
    ],
)
def test_a_corrected_prompt_composes_the_same(prompt: str, row: WordsOverride) -> None:
    by_row = analyze(prompt, overrides={"singer": row})
    by_tag = analyze(corrected_prompt(prompt, {"singer": row}))
    assert by_tag.variants == by_row.variants
    assert by_tag.merged == by_row.merged
    assert [(c.words, c.occurrence, c.triggers, c.region) for c in by_tag.concepts] == [
        (c.words, c.occurrence, c.triggers, c.region) for c in by_row.concepts
    ]


def test_nothing_to_correct_changes_nothing() -> None:
    assert corrected_prompt(PROMPT, {"other": WordsOverride(words="grass")}) == PROMPT


# ------------------------------------------------------------------------------------------------ engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A tab with a tiny model and LoRAs of its own."""
    folder = tmp_path_factory.mktemp("page")
    pipe = tiny_sd()
    pipe.save_pretrained(folder / "model")
    for seed, name in enumerate(("cat", "dog")):
        write_lora(folder / f"{name}.safetensors", pipe, seed)
    return Session(folder / "model", (folder,))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("cpu")


def job(tiny: Session, prompt: str = "a <lora:cat:1> cat and a <lora:dog:1> dog", **changed: Any) -> Job:
    settings = Settings(refine_updates=1, **changed.pop("settings", {}))
    return Job(prompt, changed.pop("negative", ""), tiny, settings, **{"steps": 3, "seed": 4, **changed})


def drawn_of(engine: Engine, wanted: Job) -> tuple[list[Drawn], list[Progress]]:
    told = list(engine.draw(wanted, threading.Event()))
    return [one for one in told if isinstance(one, Drawn)], [one for one in told if isinstance(one, Progress)]


def test_a_job_draws_the_picture_and_plain_merge(engine: Engine, tiny: Session) -> None:
    wanted = job(tiny, settings={"show_loss": True, "show_maps": True})
    drawn, told = drawn_of(engine, wanted)
    assert [(one.merged, one.composed.seeds) for one in drawn] == [(False, (4,)), (True, (4,))]
    assert all(progress.done <= progress.total for progress in told)
    html = result_of(wanted, drawn)
    assert html.count("<figure") == 5
    assert "Seed: 4" in html
    assert "clora-compare" in html
    assert "clora-compare" not in result_of(wanted, drawn[:1])
    assert summary_of(wanted, drawn, 3.2)[0] == "Done in 3 s. Seed 4."


def test_notes_are_about_what_was_asked_for_not_about_plain_merge_beside_it(engine: Engine, tiny: Session) -> None:
    for method, count in (("clora", 0), ("merge", 1)):
        wanted = job(tiny, "a <lora:cat:1:place=left> cat and a <lora:dog:1> dog", settings={"method": method})
        drawn, _ = drawn_of(engine, wanted)
        assert sum("are not kept by the method" in note for note in summary_of(wanted, drawn, 1)[1]) == count


@pytest.mark.parametrize(
    ("changed", "count"),
    [({"prompt": "a <lora:cat:1> cat"}, 1), ({"prompt": "a <lora:cat:1> cat", "settings": {"method": "switch"}}, 1),
     ({"settings": {"method": "merge"}}, 1),
     ({"settings": {"method": "switch"}}, 2)],
)  # fmt: skip
def test_merge_is_drawn_once(engine: Engine, tiny: Session, changed: dict[str, Any], count: int) -> None:
    drawn, _ = drawn_of(engine, job(tiny, **changed))
    assert len(drawn) == count
    assert drawn[-1].merged


def test_a_picture_without_clora_is_labelled_and_has_no_clora_settings(engine: Engine, tiny: Session) -> None:
    wanted = job(tiny, prompt="a <lora:cat:1> cat", settings={"show_loss": True, "method": "composite"})
    drawn, told = drawn_of(engine, wanted)
    html = result_of(wanted, drawn)
    assert "<figcaption>without CLoRA " in html
    assert 'download="without-clora-4.png"' in html
    assert "CLoRA: on" not in html
    assert "CLoRA method" not in html
    assert [progress.text for progress in told if progress.total][-1] == "Without CLoRA: step 3"
    assert told[-1].total == 3
    assert all("CLoRA is inactive" in note for note in summary_of(wanted, drawn, 1)[1])


def test_without_updates_a_note_replaces_the_curve(engine: Engine, tiny: Session) -> None:
    for settings, told in (({"update_until": 0, "show_loss": True}, 1), ({"update_until": 0}, 0)):
        wanted = job(tiny, settings=settings)
        drawn, _ = drawn_of(engine, wanted)
        assert sum("no updates were made" in note for note in summary_of(wanted, drawn, 1)[1]) == told


def test_an_empty_prompt_is_an_error() -> None:
    found = read_prompt(" \n", "", "", Session(), lambda source: None)
    assert found.problem == "The prompt is empty: write one, or click two of the LoRAs."


# ------------------------------------------------------------------------------------------------ pasted parameters


def test_a_pages_own_parameters_are_restored(engine: Engine, tiny: Session) -> None:
    wanted = job(tiny, negative="bad, worse", guidance=2.5, width=64, settings={"mask_threshold": 0.3})
    drawn = drawn_of(engine, wanted)[0][0]
    taken = read_pasted(parameters(drawn.composed, tiny.model), tiny.model)
    assert taken is not None
    values = dict(taken.values)
    own = {name: values.pop(name) for name in ("prompt", "negative", "steps", "guidance", "seed", "width", "height")}
    assert own == {
        "prompt": wanted.prompt, "negative": "bad, worse", "steps": 3, "guidance": 2.5, "seed": 4, "width": 64,
        "height": 128,
    }  # fmt: skip
    assert values.pop("corrections") == ""
    assert Settings(**values) == wanted.settings
    said = "the prompts, Steps, CFG scale, Seed, Size, CLoRA's settings"
    assert taken.note == f"Applied from the pasted parameters: {said}."


def test_a_webuis_parameters_are_applied_as_far_as_possible() -> None:
    text = (
        f"{PROMPT}\nNegative prompt: bad\nSteps: 150, Sampler: Euler, CFG scale: seven, Seed: 9, Size: 512x768, "
        'Model: other, CLoRA: on, CLoRA mask threshold: 3, CLoRA shine: 1, CLoRA corrections: "genie: words=sks"'
    )
    taken = read_pasted(text, None)
    assert taken is not None
    assert {"steps", "guidance", "mask_threshold"} & set(taken.values) == set()
    assert (taken.values["seed"], taken.values["width"], taken.values["height"]) == (9, 512, 768)
    assert taken.values["corrections"] == "genie: words=sks"
    assert "Ignored: Sampler, Steps, CFG scale, CLoRA mask threshold, CLoRA shine." in taken.note
    assert 'with the model "other"; the current model is "clora-characters"' in taken.note


def test_parameters_of_the_embedded_model_before_are_applied_with_a_note() -> None:
    taken = read_pasted(f"{PROMPT}\nSteps: 20, CFG scale: 3, Seed: 9, Model: clora-world, CLoRA: on", None)
    assert taken is not None
    assert (taken.values["seed"], taken.values["guidance"]) == (9, 3.0)
    assert 'with the model "clora-world"; the current model is "clora-characters"' in taken.note


def test_parameters_without_clora_leave_its_settings() -> None:
    taken = read_pasted("a cat\nSteps: 20, Seed: 9, Size: 512x768", None)
    assert taken is not None
    assert set(taken.values) == {"prompt", "negative", "steps", "seed", "width", "height"}
    assert "CLoRA's settings, which they do not contain" in taken.note
    assert read_pasted(PROMPT, None) is None


# ------------------------------------------------------------------------------------------------ drawing


def test_a_random_seed_is_shown(engine: Engine, tiny: Session) -> None:
    wanted = job(tiny, seed=-1)
    drawn, _ = drawn_of(engine, wanted)
    assert drawn[0].composed.seeds == drawn[1].composed.seeds
    assert "(random)" in summary_of(wanted, drawn, 1)[0]


def test_a_model_that_cannot_be_loaded_leaves_the_old_one(engine: Engine, tiny: Session, tmp_path: Path) -> None:
    assert engine.load(tiny.model).width == 128
    with pytest.raises(CLoRAError, match="does not exist"):
        engine.load(tmp_path / "none")
    assert engine.layout(tiny.model) is not None


def test_a_painted_place_is_drawn_and_in_the_settings(engine: Engine, tiny: Session) -> None:
    mask = torch.zeros(8, 8)
    mask[1:6, :3] = 1
    row = WordsOverride(painted=Painted(mask))
    lines = write_corrections({"cat": row})
    painted = job(tiny, painted={"cat": row})
    (first, merge), _ = drawn_of(engine, painted)
    masks = first.composed.masks[0]
    assert masks is not None
    assert torch.equal(masks[1], row.painted.grid(*masks.shape[1:]))
    for one in (first, merge):
        settings = re.search(r"<pre>(.*)</pre>", result_of(painted, [one]), re.S)
        assert settings is not None
        pasted = read_pasted(unescape(settings[1]), None)
        assert pasted is not None
        assert pasted.values["corrections"] == lines


def test_masks_of_a_subject_without_a_lora_are_named_by_its_words(engine: Engine, tiny: Session) -> None:
    wanted = job(tiny, "a <lora:cat:1:place=left> cat and a <clora:bird:place=right> bird")
    drawn, _ = drawn_of(engine, wanted)
    masks = re.search('data-masks="([^"]*)"', result_of(wanted, drawn))
    assert masks is not None
    assert list(read_corrections(unescape(masks[1]))) == ["cat", "bird"]


def test_never_two_jobs_at_once(engine: Engine, tiny: Session) -> None:
    first = engine.draw(job(tiny), threading.Event())
    next(first)
    found: list[Any] = []
    second = engine.draw(job(tiny), threading.Event())
    thread = threading.Thread(target=lambda: found.extend((time.monotonic(), one) for one in second))
    thread.start()
    list(first)
    ended = time.monotonic()
    thread.join(60)
    drawn = [at for at, one in found if isinstance(one, Drawn)]
    assert len(drawn) == 2
    # The first job's end is seen here a little after its lock is free.
    assert min(drawn) > ended - 0.1


def test_a_waiting_job_shows_it_and_can_be_stopped(engine: Engine, tiny: Session) -> None:
    stop = threading.Event()
    with engine._lock:
        waiting = engine.draw(job(tiny), stop)
        assert "Waiting" in next(waiting).text  # type: ignore[union-attr]
        stop.set()
        with pytest.raises(Stopped):
            next(waiting)
    drawn, _ = drawn_of(engine, job(tiny))
    assert len(drawn) == 2


def test_a_job_ends_at_its_next_step(engine: Engine, tiny: Session) -> None:
    stop = threading.Event()
    told = engine.draw(job(tiny, steps=50), stop)
    next(told)
    stop.set()
    begun = time.monotonic()
    with pytest.raises(Stopped):
        list(told)
    assert time.monotonic() - begun < 20


def test_an_error_ends_the_job_with_its_message(engine: Engine, tiny: Session) -> None:
    with pytest.raises(CLoRAError, match="divisible by 8"):
        drawn_of(engine, job(tiny, width=65))
    assert len(drawn_of(engine, job(tiny))[0]) == 2


# ------------------------------------------------------------------------------------------------ the command


def test_without_gradio_the_error_says_what_to_do(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("NO_PROXY", "no_proxy", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "False")
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    assert "make serve" in error
    assert error.count("\n") == 1


def test_the_pages_files_are_there() -> None:
    head, css = assets()
    scripts = [*(page_browser.ROOT / "javascript").glob("*.js")]
    assert head.count("<script>") == head.count("</script>") == 1 + len(scripts)
    assert all(path.read_text("utf-8") in head for path in scripts)
    assert ".clora-table" in css
    assert ".clora-card" in css


@pytest.fixture
def has_gradio() -> None:
    if not (page_browser.GRADIO / ".done").is_file():
        pytest.skip(page_browser.missing())


@pytest.mark.usefixtures("has_gradio")
def test_the_page_needs_nothing_of_a_webui() -> None:
    code = (
        "import sys, clora.page.layout as layout;"
        "print([name for name in sys.modules if name.split('.')[0] == 'modules' or name == 'clora.hosts.host_api'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=page_browser.environment(), cwd=page_browser.ROOT, capture_output=True,
        text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


# ------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """A browser, and the address of the page."""
    if page_browser.missing():
        pytest.skip(page_browser.missing())
    log = tmp_path_factory.mktemp("page") / "log.txt"
    with page_browser.served(log) as url, page_browser.chromium() as driver:
        driver.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"], "origin": url})
        yield driver, url


PROMPT_BOX = "#txt2img_prompt textarea"
WORDS = "#txt2img_clora_table input[data-lora=singer][data-key=words]"


@pytest.fixture
def tab(page: tuple[Any, str]) -> page_browser.Tab:
    return quick(page_browser.Tab(*page))


def quick(tab: page_browser.Tab) -> page_browser.Tab:
    tab.open_settings()
    tab.type("#txt2img_clora_refine_updates input[type=number]", "1")
    tab.type("#txt2img_steps input[type=number]", "2")
    return tab


def generate(tab: page_browser.Tab) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.all(PROMPT_BOX)[0].send_keys(Keys.CONTROL, Keys.ENTER)
    tab.wait(lambda: "Done" in tab.text("#clora_status") and tab.all(".clora-compare"), "the picture")


def test_pictures_masks_slider_and_settings(tab: page_browser.Tab) -> None:
    tab.type("#clora_seed input", "11")
    generate(tab)
    captions = tab.text("figcaption")
    assert all(name in captions for name in ("CLoRA", "where each LoRA drew", "plain merge"))
    widths = tab.run("return [...document.querySelectorAll('#clora_result img')].map((one) => one.naturalWidth)")
    assert widths == [256, 512, 256, 256, 256]
    tab.run("document.querySelector('.clora-compare input').focus()")
    from selenium.webdriver.common.keys import Keys

    tab.keys(Keys.HOME)
    assert tab.run("return getComputedStyle(document.querySelector('.clora-over')).clipPath") == "inset(0px 0px 0px 0%)"
    tab.tab_to(".clora-copy")
    tab.keys(Keys.ENTER)
    tab.wait(lambda: "Copied" in tab.text(".clora-copied"), "the word")
    copied = tab.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied.startswith(PROMPT)
    assert "Steps: 2, CFG scale: 3.5, Seed: 11, Size: 256x256" in copied


def test_changed_words_change_table_highlight_and_picture(tab: page_browser.Tab) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.type("#clora_seed input", "5")
    generate(tab)
    before = tab.all("figure img")[0].get_attribute("src")
    tab.type(WORDS, "grass")
    # From within the cell: the picture waits until the correction is there.
    tab.all(WORDS)[0].send_keys(Keys.CONTROL, Keys.ENTER)
    tab.wait(lambda: tab.all("#txt2img_clora_table tr[data-words=grass]"), "the table's new words")
    tab.wait(lambda: "grass singer" in tab.text("#clora_words mark"), "the marked words")
    tab.wait(lambda: "words=grass" in tab.text(".clora-settings pre"), "the new picture")
    assert tab.all("figure img")[0].get_attribute("src") != before


def test_words_by_two_clicks(tab: page_browser.Tab) -> None:
    tab.wait(lambda: tab.all(".clora-row[data-lora=singer]"), "the table")
    tab.click(".clora-row[data-lora=singer]")
    tab.click(".clora-chip[data-value=grass]")
    tab.wait(lambda: tab.all("#txt2img_clora_table tr[data-words=grass]"), "the table's new words")
    tab.wait(lambda: "grass singer" in tab.text("#clora_words mark"), "the marked words")
    assert value(tab, "#txt2img_clora_corrections textarea") == "singer: words=grass"
    pressed = "return [...document.querySelectorAll('.clora-chip[aria-pressed=true]')].map((one) => one.dataset.value)"
    tab.wait(lambda: tab.run(pressed) == ["grass"], "the chosen words")
    tab.click(".clora-chip[data-value=grass]")
    tab.wait(lambda: tab.run(pressed) == ["sks person#2"], "the page's own words")


def test_every_row_stays_after_a_wrong_correction(tab: page_browser.Tab) -> None:
    tab.type("#txt2img_clora_corrections textarea", "singer: words=cow")
    tab.wait(lambda: tab.all("tr[data-lora=singer] [aria-invalid=true]"), "the wrong cell")
    assert len(tab.all(".clora-table tbody tr")) == 2
    assert '"cow"' in tab.text("#txt2img_clora_message .clora-problem")


def test_errors_are_shown_where_they_occur_and_nothing_is_lost(tab: page_browser.Tab) -> None:
    generate(tab)
    before = tab.text(".clora-settings pre")
    tab.type(PROMPT_BOX, f"{PROMPT} <lora:nobody:1> <b>bold</b> bird")
    tab.wait(lambda: "<b>bold</b>" in tab.text("#clora_words"), "the text that looks like HTML")
    assert not tab.all("#clora_words b")
    tab.click("#txt2img_generate")
    tab.wait(lambda: 'no LoRA "nobody"' in tab.text("#clora_status .clora-problem"), "the sentence")
    assert tab.text(".clora-settings pre") == before
    tab.click("#clora_model button")
    for field, button, sentence in (
        ("#clora_checkpoint textarea", "#clora_load", "The model /none does not exist"),
        ("#clora_folder textarea", "#clora_use", "The LoRA folder /none does not exist"),
    ):
        tab.wait(lambda field=field: tab.all(field)[0].is_displayed(), "the field")
        tab.type(field, "/none")
        tab.click(button)
        tab.wait(lambda said=sentence: said in tab.text("#clora_model_said .clora-problem"), sentence)
        assert "Current model: the embedded model." in tab.text("#clora_model_said")
    assert tab.all(".clora-card")
    tab.type(PROMPT_BOX, PROMPT)
    generate(tab)


def test_controls_without_effect_are_hidden(tab: page_browser.Tab) -> None:
    (hires,), (masks,) = (tab.all(f"#txt2img_clora_{name}") for name in ("hires", "show_masks"))
    assert "hidden" in hires.get_attribute("class").split()
    assert "hidden" not in masks.get_attribute("class").split()


def test_by_the_keyboard_alone(tab: page_browser.Tab) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    tab.run("document.querySelector('#txt2img_prompt textarea').focus()")
    tab.keys(Keys.END)
    tab.tab_to(".clora-card[data-insert*=poodle]")
    tab.keys(Keys.ENTER)
    value = tab.run("return document.querySelector('#txt2img_prompt textarea').value")
    assert value == f"{PROMPT} and a <lora:poodle:1> sks dog"
    tab.wait(lambda: "sks dog poodle" in tab.text("#clora_words mark"), "the third concept")
    tab.tab_to("#txt2img_generate")
    tab.keys(Keys.ENTER)
    tab.wait(lambda: "Done" in tab.text("#clora_status"), "the picture")
    tab.tab_to(".clora-table [data-lora=poodle][data-key=words]", 120)


CARDS = "return document.querySelector('.clora-card[data-insert*=' + arguments[0] + ']').click()"
GENIE, SINGER, LAVA = "<lora:genie:1> sks person", "<lora:singer:1> sks person", "<lora:lava:1:role=background> on lava"


@pytest.mark.parametrize(
    ("before", "clicks", "after"),
    [
        ("", ["genie", "singer", "lava"], f"a {GENIE} and a {SINGER} {LAVA}"),
        ("a dog", ["genie"], f"a dog and a {GENIE}"),
        ("photo, best quality ", ["genie", "singer"], f"photo, best quality, a {GENIE} and a {SINGER}"),
        (f"a {GENIE}, ", ["singer"], f"a {GENIE}, a {SINGER}"),
        ("photo of", ["singer"], f"photo of a {SINGER}"),
        ("a big person and a ", ["singer"], f"a big person and a {SINGER}"),
        ("<lora:pencil:1:role=style>", ["singer"], f"<lora:pencil:1:role=style> a {SINGER}"),
    ],
)
def test_cards_keep_the_prompt_a_sentence(tab: page_browser.Tab, before: str, clicks: list[str], after: str) -> None:
    tab.type(PROMPT_BOX, before)
    for name in clicks:
        tab.run(CARDS, name)
    assert tab.run("return document.querySelector(arguments[0]).value", PROMPT_BOX) == after


def test_a_card_before_another_subject(tab: page_browser.Tab) -> None:
    from selenium.webdriver.common.keys import Keys

    tab.type(PROMPT_BOX, f"a {GENIE}")
    tab.keys(Keys.HOME)
    tab.run(CARDS, "singer")
    assert tab.run("return document.querySelector(arguments[0]).value", PROMPT_BOX) == f"a {SINGER} and a {GENIE}"


def value(tab: page_browser.Tab, selector: str) -> str:
    return str(tab.run("return document.querySelector(arguments[0]).value", selector))


PRESET, COST = "#txt2img_clora_preset input", "#txt2img_clora_cost"


def test_preset_and_cost_follow_the_settings(tab: page_browser.Tab) -> None:
    tab.wait(lambda: value(tab, PRESET) == "balanced (changed)", "the word for other updates and steps")
    tab.wait(lambda: "2 concepts will be composed" in tab.text(COST), "the cost")
    tab.type("#txt2img_clora_update_until input[type=number]", "0")
    tab.wait(lambda: "About 1.6 times" in tab.text(COST), "the cost without updates")
    tab.type("#txt2img_clora_refine_updates input[type=number]", "20")
    tab.type("#txt2img_clora_update_until input[type=number]", "0.3")
    tab.wait(lambda: value(tab, PRESET) == "balanced", "the name alone")
    assert "About 1.6 times" not in tab.text(COST)


def test_user_presets_in_the_browser(page: tuple[Any, str], tab: page_browser.Tab) -> None:
    tab.wait(lambda: value(tab, PRESET) == "balanced (changed)", "the changed settings")
    tab.type("#txt2img_clora_preset_name :is(textarea, input)", "one update")
    tab.click("#txt2img_clora_preset_save")
    tab.wait(lambda: value(tab, PRESET) == "one update", "the name")
    assert tab.all("#txt2img_clora_preset_answer p")[0].is_displayed(), "the answer beside the button"
    again = page_browser.Tab(*page)
    again.wait(lambda: value(again, PRESET) == "balanced", "the page as it begins")
    assert not again.all("#txt2img_clora_method")[0].is_displayed(), "only the quality at first"
    again.click(PRESET)
    again.wait(lambda: "one update" in again.text("ul.options"), "the choice in a new tab")
    tab.all("ul.options li")[-1].click()
    tab.wait(lambda: value(tab, "#txt2img_clora_refine_updates input[type=number]") == "1", "its settings")
    tab.run("document.querySelector('#txt2img_clora_preset_delete').click()")
    tab.wait(lambda: value(tab, PRESET) == "balanced (changed)", "the default's name again")


def test_pasted_parameters_fill_the_controls(tab: page_browser.Tab) -> None:
    from selenium.webdriver.common.keys import Keys

    text = (
        f"a {GENIE} and a {SINGER}\nNegative prompt: bad\nSteps: 3, Sampler: Euler, CFG scale: 4.5, Seed: 77, "
        "Size: 256x256, CLoRA: on, CLoRA refine updates: 1, CLoRA mask threshold: 0.3"
    )
    box = tab.all(PROMPT_BOX)[0]
    paste = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    tab.run(paste, box, text)
    box.send_keys(Keys.CONTROL, Keys.ENTER)  # at once: Generate waits for the controls
    tab.wait(lambda: tab.all(".clora-settings pre"), "the picture")
    told = tab.text(".clora-settings pre")
    assert told.startswith(f"a {GENIE} and a {SINGER}\nNegative prompt: bad\nSteps: 3, CFG scale: 4.5, Seed: 77")
    assert "CLoRA refine updates: 1, CLoRA mask threshold: 0.3" in told
    assert value(tab, PROMPT_BOX) == f"a {GENIE} and a {SINGER}"
    assert value(tab, "#clora_seed input") == "77"
    tab.run(paste, tab.all(PROMPT_BOX)[0], text)
    tab.wait(lambda: "Ignored: Sampler" in tab.text("#clora_taken"), "the note")


def test_places_drawn_on_the_canvas_are_in_the_picture_and_pasted(tab: page_browser.Tab) -> None:
    canvas = Canvas(tab)
    hints = "return [...document.querySelectorAll('.clora-canvas-hint')].map((one) => one.offsetParent !== null)"
    assert tab.run(hints) == [False, False, True, False]
    canvas.drag((0.1, 0.1), (0.3, 0.4), (0.4, 0.9))
    canvas.choose("singer")
    canvas.take("paint")
    assert tab.run(hints) == [False, False, False, True]
    canvas.drag((0.6, 0.3), (0.8, 0.5), (0.7, 0.8))
    lines = "return document.querySelector('#txt2img_clora_corrections textarea').value"
    tab.wait(lambda: "singer: place=painted" in tab.run(lines), "both places")
    drawn = tab.run(lines)
    assert drawn.startswith("genie: place=10 10 30 80\nsinger: place=painted 128x128 ")
    generate(tab)
    settings = tab.text(".clora-settings pre")
    assert "<lora:genie:1:place=10 10 30 80>" in settings
    assert drawn.partition("\n")[2] in settings
    found = read_corrections(tab.run("return document.querySelector('[data-masks]').dataset.masks"))
    painted = read_corrections(drawn)["singer"].painted
    for name, region in {"genie": Box(0.1, 0.1, 0.3, 0.8), "singer": painted}.items():
        mask = found[name].painted
        assert mask is not None
        assert region is not None
        assert is_room(mask.mask, region)
        assert bool((mask.mask * region.grid(32, 32)).sum() == region.grid(32, 32).sum())
    # The picture and its masks go underneath.
    tab.click(".clora-canvas-last input")
    opaque = "return document.querySelector('.clora-canvas canvas').getContext('2d').getImageData(9, 9, 1, 1).data[3]"
    tab.wait(lambda: tab.run(opaque) == 255, "the picture")
    # Pasted settings restore what was painted.
    tab.type("#txt2img_clora_corrections textarea", "")
    tab.wait(lambda: canvas.place().endswith("anywhere"), "no place")
    paste = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
    tab.run(paste, tab.all(PROMPT_BOX)[0], settings)
    tab.wait(lambda: tab.run(lines) == drawn.partition("\n")[2], "the painted place")
    canvas.choose("singer")
    tab.wait(lambda: canvas.place().endswith("painted"), "the painted place on the canvas")


def test_generate_does_not_move_when_the_prompt_is_read(tab: page_browser.Tab) -> None:
    """A button that goes away between press and release is not clicked, and the user sees nothing happen."""
    place = "return document.querySelector('#txt2img_generate').getBoundingClientRect().top + scrollY"
    before = tab.run(place)
    tab.type(PROMPT_BOX, "")
    tab.wait(lambda: not tab.all("#clora_words mark"), "words without a mark")
    assert tab.run(place) == before


def test_an_empty_prompt_is_an_error_and_removes_the_hint(tab: page_browser.Tab) -> None:
    tab.type(PROMPT_BOX, "")
    tab.click("#txt2img_generate")
    tab.wait(lambda: "The prompt is empty" in tab.text("#clora_status .clora-problem"), "the sentence")
    tab.wait(lambda: "The prompt is empty" in tab.text("#txt2img_clora_message"), "the panel's sentence")
    assert not tab.all("#txt2img_clora_table .clora-empty")
    assert not tab.text(COST).strip()


def test_in_a_narrow_window(page: tuple[Any, str]) -> None:
    """The progress comes into sight, and the table says that it goes on to the right."""
    from selenium.webdriver.common.keys import Keys

    tab = quick(page_browser.Tab(*page, width=420, height=700))
    sideways = "return getComputedStyle(document.querySelector('.clora-sideways')).display"
    assert tab.run(sideways) == "block"
    tab.run("window.scrollTo(0, 0)")
    top = "return document.querySelector('#clora_picture').getBoundingClientRect().top"
    assert tab.run(top) > 700
    tab.all(PROMPT_BOX)[0].send_keys(Keys.CONTROL, Keys.ENTER)
    tab.wait(lambda: -1 < tab.run(top) < 100, "the place of the progress")  # scrolled to whole pixels
    tab.wait(lambda: "Done" in tab.text("#clora_status"), "the picture")
    assert -1 < tab.run(top) < 100
    tab.resize(1280, 900)
    tab.wait(lambda: tab.run(sideways) == "none", "a table that fits")


def test_tabs_do_not_see_each_others_settings(page: tuple[Any, str], tab: page_browser.Tab) -> None:
    driver, url = page
    first = driver.current_window_handle
    tab.type(PROMPT_BOX, "mine alone")
    tab.type("#txt2img_clora_corrections textarea", "cat: words=mine")
    driver.switch_to.new_window("tab")
    try:
        other = page_browser.Tab(driver, url)
        assert "mine" not in other.run("return [...document.querySelectorAll('textarea')].map((b) => b.value).join()")
    finally:
        driver.close()
        driver.switch_to.window(first)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_is_wider_than_the_window(page: tuple[Any, str], theme: str, width: int) -> None:
    tab = quick(page_browser.Tab(*page, theme=theme, width=width))
    generate(tab)
    assert tab.overflow() <= 0
    dark = tab.run("return document.body.classList.contains('dark')")
    assert dark == (theme == "dark")
    colour = "const [r, g, b] = getComputedStyle(document.querySelector(arguments[0])).color.match(/[0-9.]+/g);"
    light_text = f"{colour} return (+r + +g + +b) / 3 > 128"
    for part in ("h1", ".clora-card", "figcaption", ".clora-settings pre", ".clora-copy", ".clora-table td"):
        assert tab.run(light_text, part) == dark, part
    assert tab.run(light_text, "#clora_words mark small") is False


def test_a_plan_and_the_picture_that_goes_on_from_it(tab: page_browser.Tab) -> None:
    tab.click("#txt2img_clora_plan")
    tab.wait(lambda: "This is a plan" in tab.text("#clora_status"), "the plan", 180)
    assert "plan" in tab.text("#clora_result figcaption")
    assert len(tab.all("#clora_result figure")) == 2
    tab.wait(lambda: value(tab, "#clora_seed input") != "-1", "its seed")
    tab.wait(lambda: tab.run("return document.querySelector('.clora-canvas').open"), "the canvas")
    canvas = Canvas(tab)
    canvas.choose("singer")
    assert canvas.share(concept_color(1)) > 0.004, "the outline of its mask on the picture"
    seed = value(tab, "#clora_seed input")
    generate(tab)
    assert f"Seed {seed}." in tab.text("#clora_status")
    assert "The plan is not used" not in tab.text("#clora_status")
    assert "plain merge" in tab.text("#clora_result figcaption")
