"""What samplers share."""


class InterruptedException(BaseException):
    """Ends a sampler's loop; the sampler then gives its last latent."""
