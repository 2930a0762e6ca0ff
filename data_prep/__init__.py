"""Parallel corpora and sentences with labels, from their source to fairseq's binary format.

``python -m data_prep CORPUS`` runs four stages, each a directory under ``--out``: ``raw`` (plain
sentences), ``tok`` (Moses tokens), ``bpe`` (joint byte-pair encoding) and ``bin`` (fairseq's
dictionaries and indexed data). A corpus is one module; see ``corpora`` for how to add one. Those of
sentences (``sentences``) have two, ``raw`` and ``bin``, in the pieces of an encoder (``encoders``).
"""
