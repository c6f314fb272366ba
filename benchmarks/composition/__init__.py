"""How often each method composes what the prompt asks for, with the embedded model (docs/quality.md)."""
