"""Recipes: train, translate, score and report, around fairseq's own commands."""
