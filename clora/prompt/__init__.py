"""From a prompt's text to its composition, and to the token positions of its words."""

from ..lora.use import LoraUse
from .analysis import analyze
from .composition import Composition, Concept, Variant, WordsOverride
from .emphasis import Segment, parse_attention
from .scheduling import schedule
from .subjects import WordsSource
from .tags import LoraTag, Role, parse_tags, read_tags, remove_tags
from .text import ResolvedText, Span
from .tokens import PromptTokens, encode_layout, find_positions, scheduled_positions

__all__ = [
    "Composition",
    "Concept",
    "LoraTag",
    "LoraUse",
    "PromptTokens",
    "ResolvedText",
    "Role",
    "Segment",
    "Span",
    "Variant",
    "WordsOverride",
    "WordsSource",
    "analyze",
    "encode_layout",
    "find_positions",
    "parse_attention",
    "parse_tags",
    "read_tags",
    "remove_tags",
    "schedule",
    "scheduled_positions",
]
