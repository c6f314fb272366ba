"""Textual inversions inside LoRA files, in the diffusers host: the word stands for the file's vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clora.hosts.diffusers import Text, TextEncoding, compose
from clora.lora.bundled import BundledEmbedding
from clora.prompt import Span, analyze, schedule
from clora.prompt.evidence import evidence_of_files
from clora.settings import Settings
from tests.hosts.tiny import tiny_sd, tiny_sdxl, write_lora

WORD = "sks_cat"
PROMPT = "a <lora:cat:1> sks_cat and a <lora:dog:0.8> dog"


def vectors(width: int, count: int = 2, seed: int = 5) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sd() -> Any:
    return tiny_sd().to(torch.float64)


@pytest.fixture
def loras(tmp_path: Path, sd: Any) -> Path:
    write_lora(tmp_path / "cat.safetensors", sd, 0, extra={f"bundle_emb.{WORD}.clip_l": vectors(16)})
    write_lora(tmp_path / "dog.safetensors", sd, 1)
    return tmp_path


def encode(pipe: Any, text: str, *embeddings: BundledEmbedding) -> Any:
    encoding = TextEncoding(pipe)
    with encoding.with_embeddings(embeddings) as unused:
        assert unused == ()
        return encoding.encode([Text(schedule(text, 1)[0][1], 0)], [()])[0]


@pytest.mark.parametrize("count", [1, 3])
def test_the_word_is_that_of_a_pipeline_with_the_textual_inversion(count: int) -> None:
    pipe, own = tiny_sd(), tiny_sd()
    pipe.load_textual_inversion({WORD: vectors(16, count)[0] if count == 1 else vectors(16, count)}, token=WORD)
    text = f"a {WORD} on grass"
    expected, _ = pipe.encode_prompt(text, "cpu", 1, False)
    found = encode(own, text, BundledEmbedding(WORD, {"text_encoder": vectors(16, count)}))
    torch.testing.assert_close(found.context, expected[0])
    assert not torch.allclose(found.context, encode(own, text).context)


def test_both_encoders_of_sdxl_have_their_own_vectors() -> None:
    sdxl = tiny_sdxl()
    embedding = BundledEmbedding(WORD, {"text_encoder": vectors(16), "text_encoder_2": vectors(24)})
    other = BundledEmbedding(WORD, {"text_encoder": vectors(16), "text_encoder_2": vectors(24, seed=6)})
    one, two = (encode(sdxl, f"a {WORD}", of).context for of in (embedding, other))
    assert torch.equal(one[:, :16], two[:, :16])
    assert not torch.allclose(one[2:4, 16:], two[2:4, 16:])


def test_positions_count_each_vector(sd: Any) -> None:
    encoding, text = TextEncoding(sd), f"a {WORD} dog"
    with encoding.with_embeddings([BundledEmbedding(WORD, {"text_encoder": vectors(16, 4)})]):
        layout = encoding.layout(schedule(text, 1)[0][1])
    assert layout.positions([Span(2, 9)]) == (2, 3, 4, 5)
    assert layout.positions([Span(10, 13)]) == (6,)
    assert encoding.layout(schedule(text, 1)[0][1]).chunks != layout.chunks


def test_vectors_of_another_model_are_told(sd: Any) -> None:
    with TextEncoding(sd).with_embeddings([BundledEmbedding(WORD, {"text_encoder": vectors(24)})]) as unused:
        assert unused == (WORD,)


def run(sd: Any, prompt: str | list[str], loras: Path, seed: int = 1) -> Any:
    return compose(sd, prompt, loras=loras, steps=2, seed=seed, settings=Settings(refine_updates=1))


def test_a_lora_brings_its_word(sd: Any, loras: Path, tmp_path: Path) -> None:
    with_word = run(sd, PROMPT, loras)
    assert not any("embedding" in text for text in with_word.warnings)
    bare = tmp_path / "bare"
    bare.mkdir()
    for seed, name in enumerate(("cat", "dog")):
        write_lora(bare / f"{name}.safetensors", sd, seed)
    assert not torch.allclose(with_word.latents, run(sd, PROMPT, bare).latents)
    assert not any(module._forward_hooks for module in sd.text_encoder.modules())


def test_the_word_belongs_to_the_pictures_with_the_lora(sd: Any, loras: Path) -> None:
    """The second prompt has the word, but not the LoRA."""
    prompts = [PROMPT, "a sks_cat beside a big dog"]
    together = run(sd, prompts, loras)
    for image, prompt in enumerate(prompts):
        single = run(sd, prompt, loras, seed=1 + image)
        torch.testing.assert_close(together.latents[image], single.latents[0], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [("photo of sks_cat and a dog, <lora:cat:1>, <lora:dog:1:words=dog>", "sks_cat"), (PROMPT, "sks_cat")],
)
def test_the_word_is_evidence_for_the_subject(loras: Path, prompt: str, words: str) -> None:
    found = analyze(prompt, evidence=evidence_of_files(lambda name: loras / f"{name}.safetensors"))
    assert [concept.words for concept in found.concepts] == [words, "dog"]


def test_the_word_is_the_trigger_where_the_prompt_lacks_it(loras: Path) -> None:
    found = analyze(
        "a <lora:cat:1> cat and a <lora:dog:1> dog",
        evidence=evidence_of_files(lambda name: loras / f"{name}.safetensors"),
    )
    assert found.variants[1].text == "a sks_cat cat and a dog"
    assert found.variants[0].text == "a cat and a dog"
