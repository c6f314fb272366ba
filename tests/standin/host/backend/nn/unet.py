"""The UNet's module, which holds its attention as a global."""

from backend.attention import attention_function  # noqa: F401
