"""The diffusers host: composes with any StableDiffusionPipeline or StableDiffusionXLPipeline object."""

from .compose import Composed, components_of, compose, prepare
from .sampling import DiffusersDenoiser, Sampling, decode, initial_latents, sample
from .text import Text, TextEncoding

__all__ = [
    "Composed",
    "DiffusersDenoiser",
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
