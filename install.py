"""CLoRA needs nothing that the WebUI does not already have, so there is nothing to install."""
