"""How the embedded model was trained. Run in this order (see assets/README.md):

python -m clora.demo.training.vae
python -m clora.demo.training.latents
torchrun --nproc-per-node 2 -m clora.demo.training.base
python -m clora.demo.training.loras
"""
