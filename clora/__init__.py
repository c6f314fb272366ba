"""CLoRA: contrastive test-time composition of several LoRAs in one picture (arXiv 2403.19776)."""
