"""How fast an exported model translates a test set, and how well, by each engine.

    python -m benchmarks.translation_speed DATA --checkpoint FILE

exports the checkpoint, as float32 and as int8, and translates the raw test set on the CPU, from
text to text; loading is not counted. Prints sentences per second (median of `--runs`), BLEU, and
how many translations differ from those of fairseq.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from data_prep.support.progress import progress
from recipes.evaluation.scores import Scorer
from recipes.models.model import quiet
from recipes.serving.export import export
from recipes.serving.model_folder import read_exported
from recipes.serving.translate import load_translator
from recipes.support.files import sentences

WEIGHTS = {"float32": None, "int8": "int8"}


@quiet()
def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Speed and BLEU of an exported model.")
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    parser.add_argument("--runs", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        models = {}
        for weights, quantization in WEIGHTS.items():
            models[weights] = Path(scratch, weights)
            export(args.data, args.checkpoint, models[weights], quantization=quantization)
        source_lang, target_lang = read_exported(models["float32"]).languages
        lines = [line.encode() for line in sentences(args.data, "test", source_lang)]
        reference = sentences(args.data, "test", target_lang)
        scorer = Scorer.of(target_lang)
        rows = []
        by_fairseq: list[str] = []
        cases = [("fairseq", "float32"), ("ctranslate2", "float32"), ("ctranslate2", "int8")]
        for engine, weights in cases:
            for threads in args.threads:
                translator = load_translator(
                    models[weights], engine=engine, threads=threads, cpu=True, warn=print
                )
                seconds = []
                for _ in progress(range(args.runs), f"{engine} {weights}, {threads}", "run"):
                    began = time.perf_counter()
                    found = list(translator.translate(lines))
                    seconds.append(time.perf_counter() - began)
                by_fairseq = by_fairseq or found
                different = sum(a != b for a, b in zip(found, by_fairseq, strict=True))
                speed = len(lines) / statistics.median(seconds)
                rows.append(
                    f"{engine:12} {weights:8} {threads:7} {speed:11.0f}"
                    f" {scorer.bleu(found, reference):6.2f} {different:7}"
                )
    print(f"torch {torch.__version__}, {len(lines)} sentences, median of {args.runs} runs")
    print(
        f"{'engine':12} {'weights':8} {'threads':>7} {'sentences/s':>11} {'BLEU':>6} {'differ':>7}"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
