"""fairseq tasks that can train against an adversary."""
