"""The contrastive loss, the region loss and the latent update (paper section 3.2)."""
