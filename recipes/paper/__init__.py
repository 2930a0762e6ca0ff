"""Papers' tables and figures: what was reported, runs, and how ours compare."""
