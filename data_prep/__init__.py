"""Parallel corpora, from their source to fairseq's binary format.

``python -m data_prep CORPUS`` runs four stages, each a directory under ``--out``: ``raw`` (plain
sentences), ``tok`` (Moses tokens), ``bpe`` (joint byte-pair encoding) and ``bin`` (fairseq's
dictionaries and indexed data). A corpus is one module; see ``corpora.py`` for how to add one.
"""
