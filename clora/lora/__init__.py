"""LoRA files on a model, row by row: read_lora -> apply_lora -> RowLoras."""

from .file import LoraFile, find_lora, read_lora, read_metadata
from .resolve import AppliedLora, apply_lora, warn_on_unhandled
from .rows import RowLoras

__all__ = [
    "AppliedLora",
    "LoraFile",
    "RowLoras",
    "apply_lora",
    "find_lora",
    "read_lora",
    "read_metadata",
    "warn_on_unhandled",
]
