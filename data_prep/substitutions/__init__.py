"""Words that may stand for others: synonyms and antonyms, by part of speech."""
