"""`clora evaluate`: the paper's evaluation with a user's checkpoint, LoRAs and prompts (docs/evaluate.md)."""
