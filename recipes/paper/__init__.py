"""The paper's tables and Figure 1: what was reported, runs, and how ours compare."""
