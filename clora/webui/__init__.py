"""The WebUI extension: script, job, API routes, X/Y/Z axes."""
