"""Pretrained encoders, from Hugging Face's layout to a checkpoint and a dictionary of fairseq."""
