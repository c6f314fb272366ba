"""From a prompt's text to what is composed, and to the token positions of its words."""

from clora.prompt.analysis import analyze
from clora.prompt.composition import Composition, Concept, LoraUse, Variant, WordsOverride
from clora.prompt.emphasis import Segment, parse_attention
from clora.prompt.scheduling import schedule
from clora.prompt.subjects import WordsRule
from clora.prompt.tags import LoraTag, Role, parse_tags, remove_tags
from clora.prompt.text import ResolvedText, Span
from clora.prompt.tokens import PromptTokens, encode_layout, find_positions, scheduled_positions

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
    "WordsRule",
    "analyze",
    "encode_layout",
    "find_positions",
    "parse_attention",
    "parse_tags",
    "remove_tags",
    "schedule",
    "scheduled_positions",
]
