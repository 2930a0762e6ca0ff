# `make` lists the targets. Everything runs in .venv, which the first target makes.
SHELL := /bin/bash
VENV := .venv
CORPUS ?= libreoffice-help-de-en
RECIPE ?= libreoffice-help-de-en
export MODEL ?= $(if $(filter classify,$(MAKECMDGOALS)),results/sentiment/model,results/demo/model)
ARGS ?=
ARCHIVE ?=
BENCH ?=

# A corpus of sentences has no script of its own.
SCRIPT = recipes/$(if $(wildcard recipes/$(RECIPE).sh),$(RECIPE),finetune).sh
STAGES = score calibrate $(if $(filter recipes/finetune.sh,$(SCRIPT)),,robustness)

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONPATH := $(CURDIR)
ENVIRONMENT := $(VENV)/.installed
# A file's tests stay together, for what they share. Each process takes about a GB.
PYTEST := python -m pytest -n auto --maxprocesses 8 --dist loadfile

.DEFAULT_GOAL := help
PAPER := table2 table3 table4 table6 parameter-study figure2 figure3 figure4 glue-submission \
  attention-table attention-study mat-table mat-ablation
.PHONY: help install demo compare train $(PAPER) evaluate \
  export translate classify data bench bench-gpu test test-slow check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(ENVIRONMENT) ## make .venv with the pinned requirements (PYTHON=... to choose one)

$(ENVIRONMENT): requirements.txt
	@recipes/environment/set_up.sh $(VENV)
	@touch $@

# What is set on make's command line is in the environment of all these: see their headers.
demo: $(ENVIRONMENT) ## corpus, training, scores, a plot, a translator (TASK=sentiment, METHOD=, CORPUS=)
	@PYTHON=python recipes/demo.sh

compare: $(ENVIRONMENT) ## methods on one corpus (CORPUS= or TEXT=, ENCODER=, METHODS=, SEEDS=, JOBS=)
	@PYTHON=python recipes/compare.sh -- $(ARGS)

train: $(ENVIRONMENT) ## train and score a recipe (RECIPE=, METHOD=, ENCODER=, SEED=, GPUS=, SCALE=tiny, DRY_RUN=1)
	@PYTHON=python "$(SCRIPT)" -- $(ARGS)

$(PAPER): $(ENVIRONMENT)
	@PYTHON=python recipes/paper.sh $@ -- $(ARGS)
table2: ## the paper's Table 2, all methods and seeds (SEEDS=, JOBS=, GPUS_EACH=, SCALE=tiny, DRY_RUN=1)
table3: ## Table 3: WMT'16
parameter-study: ## Figure 1: unrolled steps and radius, SALT against SMART (STEPS=, RADII=)
table4: ## GLUE's dev sets (ENCODER=, TASKS=, METHODS=, SEEDS=, LRS=); table6: ANLI
figure2: ## calibration of classifiers; figure3: losses; figure4: probing (the same variables)
glue-submission: ## the zip for GLUE's server, of runs that are there (ENCODER=, METHOD=, SEED=)

attention-table: ## Table 2 of Kitada and Iyatomi (2021): labels, and attention (TASKS=, EPSILONS=, SEEDS=)
attention-study: ## their Figure 4: prediction over epsilon (the same variables)
mat-table: ## Tables 1 to 3 of Zhong et al. (2023), mixed strategies on GLUE and ANLI (as table4)
mat-ablation: ## their Tables 4 and 5, and what mixing adds (SAMPLES=, LAMBDAS=)

evaluate: $(ENVIRONMENT) ## of a trained recipe: scores, calibration, robustness (AVERAGE=, BASELINE=)
	@PYTHON=python "$(SCRIPT)" $(STAGES)

export: $(ENVIRONMENT) ## make a translator, or a classifier, of a trained recipe
	@PYTHON=python "$(SCRIPT)" export

translate: $(ENVIRONMENT) ## standard input to standard output (MODEL=, ARGS="--engine fairseq")
	@python -m recipes.serving.translate "$$MODEL" $(ARGS)

classify: $(ENVIRONMENT) ## the same with labels of sentences, or of pairs with a tab between (MODEL=)
	@python -m recipes.sentences.classify "$$MODEL" $(ARGS)

data: $(ENVIRONMENT) ## prepare a corpus (CORPUS=, ARCHIVE=, ARGS="--max-words 50")
	@python -m data_prep "$(CORPUS)" $(if $(ARCHIVE),--archive $(ARCHIVE)) $(ARGS)

bench: $(ENVIRONMENT) ## what games cost: time, memory, scaling (BENCH="update memory", ARGS=--quick)
	@PYTHON=python benchmarks/bench.sh $(BENCH) $(ARGS)

bench-gpu: $(ENVIRONMENT) ## the same on a GPU
	@PYTHON=python benchmarks/bench.sh $(BENCH) --cuda --out results/bench-gpu $(ARGS)

test: $(ENVIRONMENT) ## run the tests on all cores (minutes; ARGS="-k salt", ARGS="-n 0 --pdb")
	@$(PYTEST) $(ARGS)

test-slow: $(ENVIRONMENT) ## run the long tests too, some of which use the network
	@$(PYTEST) -m "slow or not slow" $(ARGS)

check: $(ENVIRONMENT) ## lint, formatting, types, shell scripts
	@ruff check .
	@ruff format --check .
	@mypy
	@shellcheck recipes/*.sh recipes/*/*.sh recipes/slurm.sbatch benchmarks/*.sh .ci/run

format: $(ENVIRONMENT) ## format the code
	@ruff check --fix-only .
	@ruff format .

clean: ## remove the environment, data, results and caches
	rm -rf $(VENV) data results build dist fairseq_adv.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
