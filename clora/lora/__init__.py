"""LoRA files on a model, row by row: read_lora -> apply_lora -> RowLoras."""

from .apply import AppliedLora, apply_lora, warn_on_unhandled
from .file import LoraFile, find_lora, read_lora, read_metadata
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
