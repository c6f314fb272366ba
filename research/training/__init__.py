"""How the embedded model was trained. Run in this order (see clora/embedded/assets/README.md):

python -m research.training.vae
python -m research.training.latents
torchrun --nproc-per-node 2 -m research.training.base
python -m research.training.loras
"""
