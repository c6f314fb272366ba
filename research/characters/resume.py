"""Keep a training that is not finished: weights in a byte a number, from which `base --warm FILE` goes on.

Each row of a matrix has a scale of its own, so that the error is below half a percent of the row's largest number: less
than a few steps of training change. Of the words' vectors only those that captions use are kept.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from research.shared.diffusion import load

from .captions import Writer
from .common import options
from .model import Tokens, new_text_encoder, new_tokenizer, new_unet
from .scene import random_scene

KEPT = Path(__file__).with_name("weights") / "base.safetensors"
_WORDS = "text_model.embeddings.token_embedding.weight"


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices in bytes with a scale for each row; the rest in float16."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or not value.is_floating_point():
            found[name] = value.half() if value.is_floating_point() else value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        found[name] = (rows / scale).round().to(torch.int8).view(value.shape)
        found[f"{name}#scale"] = scale[:, 0].clone()
    return found


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` was given, nearly, in float32."""
    found = {}
    for name, value in packed.items():
        scale = packed.get(f"{name}#scale")
        if scale is not None:
            found[name] = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
        elif not name.endswith("#scale"):
            found[name] = value.float() if value.is_floating_point() else value
    return found


def used_words(count: int = 4000) -> Tensor:
    """The numbers of the tokens that captions use."""
    rng, tokens = random.Random(0), Tokens(new_tokenizer())
    writer = Writer(rng)
    texts = [[piece.text for piece in writer.caption(random_scene(rng)).pieces] for _ in range(count)]
    return torch.tensor(sorted({*tokens.ids(texts).flatten().tolist()}))


def keep(unet: nn.Module, text_encoder: nn.Module, path: Path, words: Tensor) -> None:
    """Write the weights of both; of the words' vectors those of the tokens `words`."""
    text = text_encoder.state_dict()
    text = {**text, _WORDS: text[_WORDS][words], "words": words}
    parts = {f"unet.{name}": value for name, value in unet.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(pack({**parts, **{f"text.{name}": value for name, value in text.items()}}), path)


def take(path: Path, size: str = "middle") -> tuple[nn.Module, nn.Module]:
    """UNet and text encoder with the weights of a file that `keep` wrote; words that it lacks have new vectors."""
    state, unet, text_encoder = unpack(load_file(path)), new_unet(size), new_text_encoder()
    text = {name[5:]: value for name, value in state.items() if name.startswith("text.")}
    vectors = text_encoder.state_dict()[_WORDS].clone()
    vectors[text.pop("words")] = text[_WORDS]
    text_encoder.load_state_dict({**text, _WORDS: vectors})
    unet.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("unet.")})
    return unet, text_encoder


def main() -> None:
    """Keep the model of the work folder."""
    args = options(__doc__ or "").parse_args()
    pipe = load(args.work / "model", "cpu")
    keep(pipe.unet, pipe.text_encoder, KEPT, used_words())
    print(KEPT, KEPT.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
