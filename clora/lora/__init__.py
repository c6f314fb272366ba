"""LoRA files on a model, row by row: read_lora (file.py) -> resolve_lora (resolve.py) -> RowLoras (rows.py).

Which layers a model has under which names is the model family's knowledge (`clora.models`), one floor above.
"""
