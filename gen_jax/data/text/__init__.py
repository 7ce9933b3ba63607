"""Text: tokenizers, captions, instructions and vocabularies."""
