"""The model in the package and its LoRAs: where they lie, and what they are drawn with."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_ASSETS = Path(__file__).parent / "assets"
EMBEDDED_MODEL = EMBEDDED_ASSETS / "model"
EMBEDDED_LORAS = EMBEDDED_ASSETS / "loras"
EMBEDDED_GUIDANCE = 3.5  # it knows little, so the 7.5 of real models makes it glare
DEMO_PROMPT = "a <lora:sunball:1> sks ball and a <lora:moonball:1> sks ball on grass"
