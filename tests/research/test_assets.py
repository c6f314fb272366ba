"""The committed weights: small, safe to load, complete, and in the layouts users know."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from clora.embedded import DEMO_PROMPT, EMBEDDED_ASSETS, EMBEDDED_LORAS, EMBEDDED_MODEL
from clora.page.cards import SIZE, THUMBNAILS
from clora.prompt import analyze
from clora.prompt.tags import parse_tags
from research.characters.backgrounds import BACKGROUNDS
from research.characters.kohya import BASE_MODEL
from research.characters.lessons import LESSONS
from research.characters.prompts import load_prompts
from research.characters.words import CHARACTERS, WORDS
from research.figures.examples import EXAMPLES
from research.figures.settings_strips import PROMPTS, STRIPS
from research.figures.thumbnails import prompt_of

ROOT = Path(__file__).parents[2]
ROOMS = ("clora", "research", "benchmarks", "tests", "docs")
LORAS = sorted(EMBEDDED_LORAS.glob("*.safetensors"))
NAMES = {path.stem for path in LORAS}
KOHYA = re.compile(r"lora_(unet|te)_[a-z0-9_]+\.(lora_down\.weight|lora_up\.weight|alpha)")


def named(*prompts: str) -> set[str]:
    """The LoRAs that prompts name."""
    return {tag.name for prompt in prompts for tag in parse_tags(prompt) if not tag.without_lora}


def test_all_weights_are_safetensors_and_small() -> None:
    """Recordings of tiny models among the tests' data count apart."""
    found = [path for room in ROOMS for path in (ROOT / room).rglob("*")]
    weights = [path for path in found if path.suffix in {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz"}]
    assert {path.suffix for path in weights} == {".safetensors"}
    trained, recorded = (
        [path for path in weights if ("tests" in path.relative_to(ROOT).parts) == tests] for tests in (False, True)
    )
    assert sum(path.stat().st_size for path in trained) <= 45_000_000
    assert sum(path.stat().st_size for path in recorded) <= 10_000_000


@pytest.mark.parametrize("path", EMBEDDED_ASSETS.rglob("*.safetensors"), ids=lambda path: path.stem)
def test_weights_are_finite_and_float16(path: Path) -> None:
    with safe_open(path, "pt") as file:
        keys = file.keys()
        assert {file.get_slice(key).get_dtype() for key in keys} <= {"F16", "I64"}
        assert all(bool(file.get_tensor(key).isfinite().all()) for key in keys)


def test_nothing_names_a_folder_of_the_machine_that_made_it() -> None:
    for path in EMBEDDED_MODEL.rglob("*config.json"):
        assert not re.search(r'"_name_or_path": "[^"]*[/\\]', path.read_text("utf-8")), path
    for path in LORAS:
        with safe_open(path, "pt") as file:
            assert not re.search(r"/(root|home|tmp|work)/", json.dumps(file.metadata())), path.name


def test_class_words_and_the_trigger_are_single_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(EMBEDDED_MODEL / "tokenizer")
    for word in (*WORDS, *(character.kind for character in CHARACTERS.values()), *BACKGROUNDS, "sks", "lava"):
        assert len(tokenizer(word).input_ids) == 3, word


@pytest.fixture(scope="module")
def pipe() -> Any:
    diffusers = pytest.importorskip("diffusers")
    return diffusers.StableDiffusionPipeline.from_pretrained(EMBEDDED_MODEL)


def test_the_pipeline_loads_and_has_the_promised_shape(pipe: Any) -> None:
    assert pipe.vae_scale_factor == 8
    assert pipe.vae.config.latent_channels == 4
    assert pipe.unet.config.sample_size == 32
    assert sum("CrossAttn" in block for block in pipe.unet.config.down_block_types) == 3
    assert pipe.text_encoder.config.max_position_embeddings == 77
    assert pipe.tokenizer.model_max_length == 77
    assert pipe.scheduler.config.prediction_type == "v_prediction"


def test_every_lora_has_a_lesson_and_a_thumbnail_and_no_thumbnail_is_left_over() -> None:
    assert set(LESSONS) >= NAMES
    pictures = {path.stem: path for path in THUMBNAILS.iterdir()}
    assert set(pictures) == NAMES
    for path in pictures.values():
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == ("WEBP", (SIZE, SIZE))
            assert len(picture.convert("RGB").resize((16, 16)).getcolors() or []) > 20, path.name
    assert sum(path.stat().st_size for path in pictures.values()) < 200_000


def test_a_thumbnails_prompt_shows_its_lora_as_what_it_is() -> None:
    for lesson in LESSONS.values():
        prompt = prompt_of(lesson)
        found = analyze(prompt)
        assert named(prompt) == {lesson.name}
        assert lesson.trigger in found.text
        assert {use.name for use in (*found.merged.loras, *found.styles)} == {lesson.name}
        roles = {"style": found.styles, "background": found.background}
        own = "style" if lesson.style else "background" if lesson.background else ""
        assert {role for role, uses in roles.items() if uses} == ({own} if own else set())


def test_there_are_enough_loras_two_of_one_class() -> None:
    kinds = Counter(CHARACTERS[name].kind for name in NAMES & set(CHARACTERS))
    assert len(NAMES) >= 12
    assert kinds["person"] >= 2
    assert kinds["cat"] >= 2


def test_every_lora_that_figures_and_benchmark_name_is_there() -> None:
    figures = [*(one.prompt for one in EXAMPLES), *(one.prompt for one in STRIPS), *(text for _, text in PROMPTS)]
    assert named(DEMO_PROMPT, *figures) <= NAMES
    assert named(*(one.prompt for one in load_prompts())) <= NAMES


@pytest.mark.parametrize("path", LORAS, ids=lambda path: path.stem)
def test_loras_have_kohyas_keys_and_say_what_they_are(path: Path) -> None:
    with safe_open(path, "pt") as file:
        keys, metadata = list(file.keys()), file.metadata()
    assert all(KOHYA.fullmatch(key) for key in keys)
    assert {key.split("_")[1] for key in keys} == {"unet", "te"}
    assert set(Counter(key.split(".")[0] for key in keys).values()) == {3}
    assert metadata["ss_base_model_version"] == BASE_MODEL
    assert metadata["ss_output_name"] == path.stem
    assert metadata["modelspec.trigger_phrase"] == LESSONS[path.stem].trigger


@pytest.mark.parametrize("path", LORAS, ids=lambda path: path.stem)
def test_loras_fit_the_model(path: Path, pipe: Any) -> None:
    layers = {
        f"lora_{prefix}_{name.replace('.', '_')}": module.weight.shape
        for prefix, model in (("unet", pipe.unet), ("te", pipe.text_encoder))
        for name, module in model.named_modules()
        if getattr(module, "weight", None) is not None
    }
    with safe_open(path, "pt") as file:
        for layer in {key.split(".")[0] for key in file.keys()}:  # noqa: SIM118
            up, down = (file.get_slice(f"{layer}.lora_{way}.weight").get_shape() for way in ("up", "down"))
            assert [up[0], *down[1:]] == list(layers[layer]), layer
            assert up[1] == down[0]
