"""Comparisons of labels of sentences: their options, scores, significance and tables."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fairseq import options

from data_prep.support.errors import DataPrepError
from recipes.comparison.__main__ import _kind, compare, write
from recipes.comparison.contenders import contender, contenders
from recipes.comparison.costs import Cost
from recipes.comparison.kinds import kind_from
from recipes.comparison.kinds.kind import System
from recipes.comparison.kinds.sentences import Sentences
from recipes.comparison.kinds.translation import Translation
from recipes.comparison.plan import Budget, Run, plan_run
from recipes.comparison.results import collect
from recipes.comparison.run import at
from recipes.comparison.table import Conditions
from recipes.support.errors import RecipeError
from recipes.support.files import LOG, read_json, write_json
from tests.recipes.sentences.test_evaluate import *  # noqa: F403
