"""Models that predict labels of sentences and pairs: scored, exported and used."""
