"""What the engine needs to know of a diffusion model: its family, its rows, its memory."""
