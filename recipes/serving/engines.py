"""Beam search with an exported model, by CTranslate2 or by fairseq: the same search twice.

Both return all hypotheses of a beam with their log-probabilities, as `translate` of
`recipes.models.generation` does, and leave the ranking to its `best`. fairseq ends the search of a
sentence when as many hypotheses as the beam is wide have ended; CTranslate2 would go on, with a
length penalty of 0, until the best one of a step is an ended one.
"""

import math
from collections.abc import Iterator, Sequence, Sized
from pathlib import Path
from typing import Protocol

from recipes.models.checkpoint import refusals_as_errors
from recipes.models.generation import MAX_LEN_A, MAX_LEN_B, Hypothesis, hypothesis_of
from recipes.serving.model_folder import CTRANSLATE2, MODEL
from recipes.support.errors import RecipeError

ENGINES = ("ctranslate2", "fairseq")

# CTranslate2 ends its search as fairseq does with any length penalty but 0; a number to this power
# is 1 in float32, so that scores stay what they are.
_NEXT_TO_ZERO = 1e-12
_PADDING, _END = "<blank>", "</s>"  # in CTranslate2's vocabularies


class Engine(Protocol):
    """A loaded model."""

    def translate(self, batch: list[list[str]]) -> list[list[Hypothesis]]:
        """Return the hypotheses of each sentence of one or more subwords, the longest first."""


class FairseqEngine:
    """Translates with model.pt."""

    def __init__(self, model: Path, beam: int, threads: int, cpu: bool) -> None:
        # Imported late: not needed for the other engine, and slow.
        import torch
        from fairseq import checkpoint_utils

        import fairseq_adv.tasks  # noqa: F401  (mends the loading of checkpoints)

        if not (model / MODEL).is_file():
            raise RecipeError(f"{model / MODEL}: not there; export the checkpoint anew")
        torch.set_num_threads(threads)
        self._device = "cuda" if torch.cuda.is_available() and not cpu else "cpu"
        options = {"beam": beam, "unnormalized": True}
        options |= {"max_len_a": MAX_LEN_A, "max_len_b": MAX_LEN_B}
        with refusals_as_errors():
            self._models, cfg, self._task = checkpoint_utils.load_model_ensemble_and_task(
                [str(model / MODEL)], arg_overrides={"data": str(model), **options}
            )
        for loaded in self._models:
            loaded.prepare_for_inference_(cfg)  # which convolutional models tell the beam size
            loaded.to(self._device)
        self._generator = self._task.build_generator(self._models, cfg.generation)

    def translate(self, batch: list[list[str]]) -> list[list[Hypothesis]]:
        """See `Engine.translate`."""
        from fairseq.data import data_utils

        source, target = self._task.source_dictionary, self._task.target_dictionary
        sentences = [
            source.encode_line(" ".join(words), add_if_not_exist=False).long() for words in batch
        ]
        tokens = data_utils.collate_tokens(
            sentences, source.pad(), left_pad=self._task.cfg.left_pad_source
        ).to(self._device)
        lengths = tokens.ne(source.pad()).sum(dim=1)
        sample = {"net_input": {"src_tokens": tokens, "src_lengths": lengths}}
        found = self._task.inference_step(self._generator, self._models, sample)
        return [[hypothesis_of(one, target) for one in hypotheses] for hypotheses in found]


class CTranslate2Engine:
    """Translates with the folder ctranslate2/.

    :param max_target_positions: see `Exported.max_positions`.
    """

    def __init__(
        self, model: Path, beam: int, max_target_positions: int, threads: int, cpu: bool
    ) -> None:
        import ctranslate2

        if not (model / CTRANSLATE2).is_dir():
            raise RecipeError(
                f"{model / CTRANSLATE2}: not there; recipes.serving.export says why; use --engine"
                " fairseq"
            )
        on_gpu = not cpu and ctranslate2.get_cuda_device_count() > 0
        self._translator = ctranslate2.Translator(
            str(model / CTRANSLATE2), device="cuda" if on_gpu else "cpu", intra_threads=threads
        )
        self._beam = beam
        self._longest = max_target_positions - 1

    def translate(self, batch: list[list[str]]) -> list[list[Hypothesis]]:
        """See `Engine.translate`."""
        source = max(map(len, batch)) + 1
        results = self._translator.translate_batch(
            batch,
            beam_size=self._beam,
            num_hypotheses=self._beam,
            length_penalty=_NEXT_TO_ZERO,
            max_input_length=0,  # they are short enough, or should fail
            max_decoding_length=min(MAX_LEN_A * source + MAX_LEN_B, self._longest),
            suppress_sequences=[[_PADDING]],  # as fairseq does
            return_scores=True,
            return_end_token=True,
        )
        return [
            [
                self._hypothesis(sentence, words, score)
                for words, score in zip(result.hypotheses, result.scores, strict=True)
            ]
            for sentence, result in zip(batch, results, strict=True)
        ]

    def _hypothesis(self, sentence: list[str], words: list[str], score: float) -> Hypothesis:
        if words[-1] == _END:
            words = words[:-1]
        else:
            # It was cut off, and is not charged for its end; fairseq forces one, and charges it.
            (scored,) = self._translator.score_batch([sentence], [words], max_input_length=0)
            score = sum(scored.log_probs)
        return Hypothesis(" ".join(words), score / math.log(2), len(words) + 1)


def batches(sentences: Sequence[Sized], max_tokens: int) -> Iterator[list[int]]:
    """Yield indices of sentences of like length, at most `max_tokens` with ends and padding.

    A sentence that is longer is a batch of its own. The longest come first.
    """
    batch: list[int] = []
    for index in sorted(range(len(sentences)), key=lambda i: len(sentences[i]), reverse=True):
        if batch and (len(batch) + 1) * (len(sentences[batch[0]]) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
