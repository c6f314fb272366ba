"""From compositions to contexts, LoRA sets and image plans for every step; written once for all hosts.

A host supplies a text encoder (`encoding.TextEncoder`) and how it counts steps (`timetable.PromptSteps`).
"""
