"""Print where the package is: fairseq-train --user-dir "$(python -m fairseq_adv)"."""

from pathlib import Path

print(Path(__file__).parent)
