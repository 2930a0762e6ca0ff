"""Compare methods on one corpus: runs, scores, tables, plots."""
