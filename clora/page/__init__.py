"""The page for the embedded model: `clora serve`, with the same panel as in the WebUIs."""
