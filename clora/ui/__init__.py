"""The panel: gradio components and what they show. Imports no host."""
