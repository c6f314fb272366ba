"""The embedded world, its model and LoRAs, and the command line."""
