"""The composer: update, predict, mask and fuse at each sampler step."""
