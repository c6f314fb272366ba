"""Extractors of three packages, and crops by CLIPSeg, with small random weights."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.multimodal import clip_score
from transformers import CLIPModel, CLIPProcessor

from clora.errors import CLoRAError
from clora.evaluate.features import load_clip, load_dino
from clora.evaluate.segmenter import ClipSeg, boxes_of, connected
from clora.evaluate.store import Store
from tests.evaluate.readers import save_clip, save_clipseg, save_dino, save_vit

PICTURES = [Image.new("RGB", (40, 30), "red"), Image.linear_gradient("L").convert("RGB")]
Content = Callable[[Path], str]


@pytest.fixture
def content(tmp_path: Path) -> Content:
    return Store(tmp_path / "out").content_of


@pytest.mark.parametrize("save", [save_dino, save_vit])
def test_dino_is_the_class_token(tmp_path: Path, content: Content, save: Callable[[Path], Path]) -> None:
    features = load_dino(str(save(tmp_path / "dino")), content)
    vectors = features.to("cpu").image(PICTURES)
    assert vectors.shape == (2, 16)
    assert not torch.allclose(vectors[0], vectors[1])
    again = features.image(PICTURES[:1])
    torch.testing.assert_close(again[0], vectors[0], rtol=1e-4, atol=1e-5)


def test_clip_reads_pictures_and_texts(tmp_path: Path, content: Content) -> None:
    features = load_clip(str(save_clip(tmp_path / "clip")), content)
    assert features.to("cpu").image(PICTURES).shape == (2, 12)
    texts = features.text(["a cat", "a cat and a dog", "word " * 200])
    assert texts.shape == (3, 12)
    assert bool(texts.isfinite().all())


def test_clip_t_equals_torchmetrics(tmp_path: Path, content: Content) -> None:
    folder = save_clip(tmp_path / "clip")
    features = load_clip(str(folder), content)
    own = lambda: (CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder))  # noqa: E731
    noise = np.random.default_rng(0)
    for text in ("a cat and a dog", "grass at night"):
        picture = Image.fromarray(noise.integers(0, 256, (48, 40, 3), np.uint8))
        cosine = torch.cosine_similarity(features.image([picture]), features.text([text]))
        expected = clip_score(torch.tensor(np.asarray(picture)).permute(2, 0, 1), text, own)
        # torchmetrics tells percent, and nothing below 0.
        torch.testing.assert_close(cosine.clamp_min(0)[0] * 100, expected.detach(), rtol=1e-4, atol=1e-4)


def test_other_weights_have_another_name(tmp_path: Path, content: Content) -> None:
    first = load_dino(str(save_dino(tmp_path / "a", 0)), content).identity
    second = load_dino(str(save_dino(tmp_path / "b", 1)), content).identity
    copy = load_dino(str(save_dino(tmp_path / "c", 0)), content).identity
    assert first == copy != second


def test_models_that_cannot_be_loaded_are_errors(
    tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for load in (load_dino, load_clip):
        with pytest.raises(CLoRAError, match=r"nowhere.* cannot be loaded"):
            load(str(tmp_path / "nowhere"), content)


@pytest.mark.parametrize(("load", "source"), [(load_dino, "timm:vit_x"), (load_clip, "open_clip:ViT@tag")])
def test_a_missing_package_is_an_error(
    content: Content, monkeypatch: pytest.MonkeyPatch, load: Any, source: str
) -> None:
    monkeypatch.setitem(sys.modules, source.split(":")[0], None)
    with pytest.raises(CLoRAError, match="pip install"):
        load(source, content)


class Mean(torch.nn.Module):
    """Stands for a foreign model: the mean colour of a picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))

    encode_image = forward

    def encode_text(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()[:, :3]


def tensor_of(picture: Image.Image) -> torch.Tensor:
    return torch.tensor(list(picture.resize((4, 4)).tobytes())).reshape(4, 4, 3).permute(2, 0, 1) / 255


def test_timm(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def create_model(name: str, **options: Any) -> Mean:
        asked.update(options, name=name)
        return Mean()

    data = SimpleNamespace(
        resolve_model_data_config=lambda model: {"size": 4}, create_transform=lambda size, is_training: tensor_of
    )
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data))
    vectors = load_dino("timm:vit_small", content).to("cpu").image(PICTURES)
    torch.testing.assert_close(vectors[0], torch.tensor([1.0, 0.0, 0.0]))
    assert asked == {"name": "vit_small", "pretrained": True, "num_classes": 0}
    load_dino("timm:vit_small@weights.pth", content)
    assert asked["checkpoint_path"] == "weights.pth"
    assert asked["pretrained"] is False


def test_open_clip(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    package = SimpleNamespace(
        create_model_and_transforms=lambda name, pretrained: (Mean(), None, tensor_of),
        get_tokenizer=lambda name: lambda texts: torch.tensor([[len(text), 1, 2, 3] for text in texts]),
    )
    monkeypatch.setitem(sys.modules, "open_clip", package)
    features = load_clip("open_clip:ViT-B-32@tag", content).to("cpu")
    assert features.image(PICTURES).shape == (2, 3)
    assert features.text(["abc"]).tolist() == [[3.0, 1.0, 2.0]]
    with pytest.raises(CLoRAError, match="names no weights"):
        load_clip("open_clip:ViT-B-32", content)


def test_patches() -> None:
    drawn = ["##..#", "#...#", "..###", ".....", "#.##."]
    mask = torch.tensor([[place == "#" for place in row] for row in drawn])
    labels = connected(mask)
    assert labels.tolist() == [[1, 1, 0, 0, 2], [1, 0, 0, 0, 2], [0, 0, 2, 2, 2], [0, 0, 0, 0, 0], [3, 0, 4, 4, 0]]
    assert connected(torch.zeros(3, 4, dtype=torch.bool)).tolist() == [[0] * 4] * 3
    assert connected(torch.ones(3, 4, dtype=torch.bool)).tolist() == [[1] * 4] * 3


def test_a_winding_patch_is_one() -> None:
    mask = torch.ones(41, 41, dtype=torch.bool)
    for row in range(1, 41, 2):
        mask[row] = False
        mask[row, 0 if row % 4 == 1 else 40] = True
    assert int(connected(mask).max()) == 1


def test_boxes_are_of_patches_the_largest_first() -> None:
    mask = torch.zeros(20, 40, dtype=torch.bool)
    mask[0:4, 0:4] = True
    mask[10:18, 20:32] = True
    mask[19, 0] = True  # too small to count
    assert boxes_of(mask, (80, 40)) == [(38, 19, 66, 37), (0, 0, 9, 9)]
    assert boxes_of(torch.zeros(4, 4, dtype=torch.bool), (80, 40)) == []


def test_clipseg_gives_boxes_inside_the_picture(tmp_path: Path, content: Content) -> None:
    segmenter = ClipSeg(str(save_clipseg(tmp_path / "seg")), content, threshold=0.3).to("cpu")
    found = segmenter.boxes(PICTURES[1], ["cat", "a very long word of many " * 40])
    assert len(found) == 2
    assert all(0 <= x0 < x1 <= 256 and 0 <= y0 < y1 <= 256 for boxes in found for x0, y0, x1, y1 in boxes)
    never = ClipSeg(str(tmp_path / "seg"), content, threshold=1.0)
    assert never.boxes(PICTURES[1], ["cat"]) == [[]]
    assert never.identity != segmenter.identity
