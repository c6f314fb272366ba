"""Tiny random networks with the module trees of SD 1.5: a CompVis UNet, a CLIP text model, and its tokenizer."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import backend.attention
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modules import devices

WIDTH = 16  # of the text embeddings
BOS, EOS, COMMA = 1000, 1001, 267
CHUNK = 75


class Attention(nn.Module):
    """`attn1` and `attn2` of a transformer block."""

    place = (backend.attention, "attention_pytorch")
    """The module and the name of the function, which is read at each call."""

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.heads, self.scale = 2, (width // 2) ** -0.5
        self.to_q, self.to_k = nn.Linear(width, width, bias=False), nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        source = x if context is None else context
        q, k, v = self.to_q(x), self.to_k(source), self.to_v(source)
        attend = getattr(*self.place)
        return self.to_out(attend(q, k, v, self.heads))


class TransformerBlock(nn.Module):
    """Adds in place where the host does (Forge): autograd refuses that unless the norms got copies."""

    def __init__(self, width: int, in_place: bool) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1, self.attn2 = Attention(width, width), Attention(width, WIDTH)
        self.ff = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.in_place = in_place

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        parts = (
            lambda: self.attn1(self.norm1(x)),
            lambda: self.attn2(self.norm2(x), context),
            lambda: self.ff(self.norm3(x)),
        )
        for part in parts:
            if self.in_place:
                x += part()
            else:
                x = x + part()
        return x


class SpatialTransformer(nn.Module):
    """Attention over the places of a picture."""

    def __init__(self, width: int, in_place: bool) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, width)
        self.proj_in, self.proj_out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, in_place)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h, w = x.shape[2:]
        places = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            places = block(places, context)
        return x + self.proj_out(places.transpose(1, 2).unflatten(2, (h, w)))


class ResBlock(nn.Module):
    """A residual block with the embedding of the timestep."""

    def __init__(self, given: int, width: int, embedding: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(nn.GroupNorm(4, given), nn.SiLU(), nn.Conv2d(given, width, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(4, width), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(width, width, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if given == width else nn.Conv2d(given, width, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(embedding)[..., None, None]
        return self.skip_connection(x) + self.out_layers(h)


class Downsample(nn.Module):
    """Half the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Twice the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2))


class Layers(nn.ModuleList):
    """One block: its layers in order."""

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        for layer in self:
            given = emb if isinstance(layer, ResBlock) else context if isinstance(layer, SpatialTransformer) else None
            x = layer(x) if given is None else layer(x, given)
        return x


class UNet(nn.Module):
    """Three levels with attention on the lower two; the maps come from a quarter of the latent's size."""

    def __init__(self, in_place: bool = False) -> None:
        super().__init__()
        first, emb = 8, 16

        def attention(width: int) -> SpatialTransformer:
            return SpatialTransformer(width, in_place)

        self.time_embed = nn.Sequential(nn.Linear(first, emb), nn.SiLU(), nn.Linear(emb, emb))
        blocks: list[list[nn.Module]] = [[nn.Conv2d(4, first, 3, padding=1)]]
        skips, width = [first], first
        for level, wide in enumerate((8, 16, 16)):
            blocks.append([ResBlock(width, wide, emb), *([attention(wide)] if level else [])])
            width = wide
            skips.append(width)
            if level < 2:
                blocks.append([Downsample(width)])
                skips.append(width)
        self.input_blocks = nn.ModuleList(Layers(block) for block in blocks)
        self.middle_block = Layers([ResBlock(width, width, emb), attention(width), ResBlock(width, width, emb)])
        blocks = []
        for level, wide in ((2, 16), (1, 16), (0, 8)):
            for number in range(2):
                block: list[nn.Module] = [ResBlock(width + skips.pop(), wide, emb)]
                block += [attention(wide)] if level == 2 else []
                block += [Upsample(wide)] if level and number else []
                width = wide
                blocks.append(block)
        self.output_blocks = nn.ModuleList(Layers(block) for block in blocks)
        self.out = nn.Sequential(nn.GroupNorm(4, first), nn.SiLU(), nn.Conv2d(first, 4, 3, padding=1))
        for name, parameter in self.named_parameters():
            if "attn2.to_q" in name or "attn2.to_k" in name:
                nn.init.normal_(parameter, std=0.7)

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor, control: Any = None,
        transformer_options: dict[str, Any] | None = None, y: Any = None,
    ) -> Tensor:  # fmt: skip
        """The noise: most of it is what is there already, so that pictures stay in range."""
        given = x
        waves = timesteps[:, None].to(x) * torch.exp(-torch.arange(4, device=x.device) * 2.0).to(x)
        emb = self.time_embed(torch.cat([waves.sin(), waves.cos()], 1))
        hs = []
        for block in self.input_blocks:
            x = block(x, emb, context)
            hs.append(x)
        x = self.middle_block(x, emb, context)
        if control and control["middle"]:
            x = x + control["middle"].pop()
        for block in self.output_blocks:
            x = block(torch.cat([x, hs.pop()], 1), emb, context)
        return 0.9 * given + 0.3 * self.out(x)


class TextLayer(nn.Module):
    """One layer of the text model, named as in Hugging Face's."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.self_attn = nn.Module()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.self_attn.add_module(name, nn.Linear(WIDTH, WIDTH))
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        of, y = self.self_attn, self.layer_norm1(x)
        x = x + of.out_proj(F.scaled_dot_product_attention(of.q_proj(y), of.k_proj(y), of.v_proj(y), is_causal=True))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x))))


class TextModel(nn.Module):
    """Token ids (B, 77) to contexts (B, 77, WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        tower = self.text_model = nn.Module()
        tower.token_embedding, tower.position = nn.Embedding(1002, WIDTH), nn.Embedding(CHUNK + 2, WIDTH)
        tower.encoder = nn.Module()
        tower.encoder.layers = nn.ModuleList(TextLayer() for _ in range(2))
        tower.final_layer_norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(tower.final_layer_norm.bias, std=0.5)  # the mean of the embeddings must not be zero

    def forward(self, ids: Tensor, fixes: Sequence[Sequence[tuple[int, Any]]] = ()) -> Tensor:
        tower = self.text_model
        x = tower.token_embedding(ids)
        for row, own in zip(x, fixes, strict=False):
            for offset, embedding in own:
                row[offset + 1 : offset + 1 + embedding.vectors] = embedding.vec
        x = x + tower.position(torch.arange(ids.shape[1], device=ids.device))
        for layer in tower.encoder.layers:
            x = layer(x)
        return tower.final_layer_norm(x)


@dataclass
class PromptChunk:
    """77 tokens with their weights."""

    tokens: list[int] = field(default_factory=list)
    multipliers: list[float] = field(default_factory=list)
    fixes: list[Any] = field(default_factory=list)


class TextEngine:
    """Tokens and contexts by a text model; `(words:1.2)`, `BREAK` and texts of any length."""

    id_start, id_end, id_pad, comma_token = BOS, EOS, EOS, COMMA

    @property
    def database(self) -> Any:
        """The host's textual inversions."""
        raise NotImplementedError

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """A word is a token, as are a digit and a mark; long words are two."""
        return [
            [self._id(part) for word in re.findall(r"[^\W\d_]+|\d|[^\s\w]|_", text.lower()) for part in _halves(word)]
            for text in texts
        ]

    @staticmethod
    def _id(word: str) -> int:
        return COMMA if word == "," else 300 + zlib.crc32(word.encode()) % 700

    def tokenize_line(self, line: str) -> tuple[list[PromptChunk], int]:
        """Chunks of 77, and how many tokens there are."""
        done, now, last_comma, count = [], PromptChunk(), -1, 0

        def close() -> None:
            nonlocal now, last_comma
            missing = CHUNK - len(now.tokens)
            now.tokens = [BOS, *now.tokens, EOS, *[EOS] * missing]
            now.multipliers = [1.0, *now.multipliers, *[1.0] * (missing + 1)]
            done.append(now)
            now, last_comma = PromptChunk(), -1

        for piece in re.split(r"(\bBREAK\b|\([^()]+:[\d.]+\))", line):
            if piece == "BREAK":
                close()
                continue
            emphasis = re.fullmatch(r"\((.+):([\d.]+)\)", piece)
            text, weight = (emphasis[1], float(emphasis[2])) if emphasis else (piece, 1.0)
            tokens, position = self.tokenize([text])[0], 0
            while position < len(tokens):
                token = tokens[position]
                count += 1
                if token == COMMA:
                    last_comma = len(now.tokens)
                elif len(now.tokens) == CHUNK and last_comma != -1 and CHUNK - last_comma <= 20:
                    cut = last_comma + 1
                    moved = now.tokens[cut:], now.multipliers[cut:]
                    del now.tokens[cut:], now.multipliers[cut:]
                    close()
                    now.tokens, now.multipliers = moved
                if len(now.tokens) == CHUNK:
                    close()
                embedding, length = self.database.find_embedding_at_position(tokens, position)
                if embedding is not None:
                    if len(now.tokens) + embedding.vectors > CHUNK:
                        close()
                    now.fixes.append((len(now.tokens), embedding))
                now.tokens += [token] if embedding is None else [0] * embedding.vectors
                now.multipliers += [weight] * (1 if embedding is None else embedding.vectors)
                position += length or 1
        if now.tokens or not done:
            close()
        return done, count

    def encode(self, model: nn.Module, texts: Sequence[str]) -> Tensor:
        """Contexts (B, 77 * chunks, WIDTH); all texts get as many chunks as the longest has."""
        lines = [self.tokenize_line(text)[0] for text in texts]
        empty = self.tokenize_line("")[0][0]
        most = max(map(len, lines))
        parts = []
        for number in range(most):
            chunks = [line[number] if number < len(line) else empty for line in lines]
            ids = torch.tensor([chunk.tokens for chunk in chunks], device=devices.device)
            z = model(ids, [chunk.fixes for chunk in chunks])
            before = z.mean()
            z = z * torch.tensor([chunk.multipliers for chunk in chunks]).to(z)[..., None]
            parts.append(z * (before / z.mean()))
        return torch.cat(parts, 1)


def _halves(word: str) -> list[str]:
    return [word] if len(word) < 9 else [word[:5], word[5:]]


def networks(in_place: bool = False, attention: tuple[Any, str] | None = None) -> tuple[UNet, TextModel]:
    """The same random weights every time. `attention` is where the host keeps its chosen function."""
    torch.manual_seed(4)
    unet, text = UNet(in_place), TextModel()
    for module in unet.modules():
        if isinstance(module, Attention) and attention is not None:
            module.place = attention
    return unet.to(devices.device, devices.dtype).eval(), text.to(devices.device, devices.dtype).eval()


def alphas() -> Tensor:
    """SD's noise schedule."""
    levels = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    return levels.to(devices.latent_dtype()).to(devices.device)
