"""Corpora of sentences and pairs with classes or scores, for fairseq's sentence_prediction."""
