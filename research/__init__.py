"""How the embedded model was made, and how the figures of the documents are drawn. Not part of a release."""
