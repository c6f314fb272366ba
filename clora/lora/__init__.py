"""LoRA files on a model, row by row: read_lora (file.py) -> apply_lora (resolve.py) -> RowLoras (rows.py).

It imports nothing, so that `clora.models` can use `formats` and `keys`, and `resolve` can use `clora.models`.
"""
