"""`clora serve`: a page in the browser with the same panel as in the WebUIs."""
