"""The game over fairseq's models."""
