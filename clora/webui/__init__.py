"""The extension, and what the page shares with it: one job, its panel, the reading of prompts."""
