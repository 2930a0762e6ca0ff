"""Where corpora come from: downloads, archives, packages."""
