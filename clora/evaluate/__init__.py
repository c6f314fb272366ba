"""`clora evaluate`: the paper's protocol for a user's own checkpoint, LoRAs and prompts (docs/evaluate.md)."""
