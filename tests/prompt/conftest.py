"""The real CLIP tokenizer of SD 1.5, if one is available."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOS, EOS, COMMA = 49406, 49407, 267


class Clip:
    """Tokenise and decode, without begin and end tokens."""

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(str(folder))

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)).strip()


@pytest.fixture(scope="session")
def clip() -> Clip:
    golden = Path(os.environ.get("CLORA_GOLDEN", ROOT.parent / "shared" / "golden"))
    folders = [golden / "model" / "tokenizer", ROOT / "clora" / "embedded" / "assets" / "model" / "tokenizer"]
    folder = next((folder for folder in folders if (folder / "vocab.json").is_file()), None)
    if folder is None:
        pytest.skip(f"no CLIP tokenizer in {' or '.join(map(str, folders))}")
    return Clip(folder)


@pytest.fixture(scope="session")
def letters() -> Callable[[str], list[int]]:
    """A tokenizer with one token per visible character, so that every range is known."""
    return lambda text: [ord(character) for character in text if not character.isspace()]
