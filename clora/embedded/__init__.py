"""The embedded model and its LoRAs: paths, name, default guidance and demo prompt."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_ASSETS = Path(__file__).parent / "assets"
EMBEDDED_MODEL = EMBEDDED_ASSETS / "model"
EMBEDDED_LORAS = EMBEDDED_ASSETS / "loras"
EMBEDDED_NAME = "clora-characters"
"""What infotexts call the model."""
EMBEDDED_GUIDANCE = 3.5  # the usual 7.5 oversaturates the pictures of this small model
DEMO_PROMPT = "a <lora:genie:1> sks person and a <lora:singer:1> sks person on grass"
