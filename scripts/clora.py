"""CLoRA for AUTOMATIC1111's WebUI and Forge: several LoRAs in one picture, each on its own subject."""

from clora.webui.script import Script as CLoRAScript  # noqa: F401
from clora.webui.script import register

register()
