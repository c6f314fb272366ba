"""How often each method composes what the prompt asks for, on the embedded model's world (docs/quality.md)."""
