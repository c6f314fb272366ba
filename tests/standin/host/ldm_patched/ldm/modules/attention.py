"""Attention, and the ones that reForge has chosen at its start."""

from backend.attention import attention_pytorch

optimized_attention = attention_pytorch
optimized_attention_masked = optimized_attention
