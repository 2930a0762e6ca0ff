"""Lines: cleaned, split into sentences, tokens and subwords."""
