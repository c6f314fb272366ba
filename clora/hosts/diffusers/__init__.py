"""The diffusers host: composes with any StableDiffusionPipeline or StableDiffusionXLPipeline object."""

from .compose import Composed, components_of, compose, prepare
from .sampling import Conditioning, DiffusersDenoiser, Prepared, Sampling, decode, initial_latents, sample
from .text import Encoded, Text, TextEncoding

__all__ = [
    "Composed",
    "Conditioning",
    "DiffusersDenoiser",
    "Encoded",
    "Prepared",
    "Sampling",
    "Text",
    "TextEncoding",
    "components_of",
    "compose",
    "decode",
    "initial_latents",
    "prepare",
    "sample",
]
