"""What WebUIs, the command line and the page share: pictures, texts, panel."""
