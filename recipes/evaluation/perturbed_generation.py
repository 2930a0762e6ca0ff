"""Translate with perturbed word embeddings.

The encoder reads each source sentence once; beam search gives what it says of the sentence to all
beams. So it is enough to perturb the words in that one pass: all hypotheses of a sentence, at every
step, are of the same perturbed source. The target side, what the model has said so far, is clean.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from recipes.evaluation.noise import seed_of
from recipes.models.generation import MAX_LEN_A, MAX_LEN_B, Hypothesis, hypothesis_of
from recipes.models.model import Loaded, batches
from recipes.support.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

KIND = "embeddings"


def perturbation(
    numbers: Sequence[int], is_word: "Tensor", size: int, radius: float, seed: int
) -> "Tensor":
    """Return a perturbation of random direction for each sentence, B x T x size; 0 at padding.

    Its l2 norm over all words of a sentence (the end of the sentence is one) is the radius, and its
    direction, uniform among all, depends on the seed and the sentence's number and length alone.

    :param numbers: of the B sentences.
    :param is_word: B x T, false at padding.
    """
    import torch

    delta = torch.zeros(*is_word.shape, size)
    for row, number in enumerate(numbers):
        generator = torch.Generator().manual_seed(seed_of(seed, KIND, number))
        noise = torch.randn(int(is_word[row].sum()), size, generator=generator)
        delta[row, is_word[row]] = noise * (radius / noise.norm())
    return delta


def perturbed_translations(
    loaded: Loaded, split: str, radius: float, seed: int, beam: int, what: str
) -> tuple[list[list[Hypothesis]], float]:
    """Translate a split as `recipes.models.generation.translate` does, with perturbed source words.

    Returns each sentence's hypotheses, in the order of the sentences; and the l2 norm of the word
    embeddings of a sentence, on average, to compare the radius with.

    :param radius: l2 norm of a sentence's perturbation, in embedding units: it is added to what
        the embedding gives, before that is scaled by sqrt(d) and positions are added.
    :param what: the progress bar's name.

    Raises RecipeError for a model whose embeddings cannot be perturbed.
    """
    from argparse import Namespace

    from fairseq.dataclass.configs import GenerationConfig

    from fairseq_adv.games.sites import UnsupportedModel

    search = GenerationConfig(
        beam=beam, nbest=beam, unnormalized=True, max_len_a=MAX_LEN_A, max_len_b=MAX_LEN_B
    )
    loaded.model.prepare_for_inference_(Namespace(generation=search))
    generator = loaded.task.build_generator([loaded.model], search)
    dictionary = loaded.task.target_dictionary
    found: dict[int, list[Hypothesis]] = {}
    norms: list[float] = []
    for sample in batches(loaded, split, what):
        try:
            encoded, clean_norms = _encode(loaded.model, sample, radius, seed)
        except UnsupportedModel as error:
            raise RecipeError(f"its word embeddings cannot be perturbed: {error}") from error
        norms += clean_norms
        generator.model.forward_encoder = lambda _, encoded=encoded: [encoded]
        translated = loaded.task.inference_step(generator, [loaded.model], sample)
        for number, hypotheses in zip(sample["id"].tolist(), translated, strict=True):
            found[number] = [hypothesis_of(one, dictionary) for one in hypotheses]
    return [found[number] for number in range(len(found))], sum(norms) / len(norms)


def _encode(
    model: Any, sample: dict[str, Any], radius: float, seed: int
) -> tuple[Any, list[float]]:
    """Return the encoder's output for perturbed words; the norm of each sentence's clean ones."""
    import torch

    from fairseq_adv.core.sites import Add
    from fairseq_adv.games.sites.embeddings import SourceEmbeddings

    SourceEmbeddings.check(model)
    site = SourceEmbeddings(model, sample)
    _, embeddings = site.looked_up
    is_word = site.mask.squeeze(-1)
    delta = perturbation(
        sample["id"].tolist(), is_word.cpu(), embeddings.size(-1), radius, seed
    ).to(embeddings.device)
    norms = (embeddings * site.mask).norm(dim=(1, 2)).tolist()
    words = sample["net_input"]
    with torch.no_grad(), site.apply(Add(delta)):
        return model.encoder(words["src_tokens"], words["src_lengths"]), norms
