"""Research code: worlds, models and benchmarks that are still being made."""
