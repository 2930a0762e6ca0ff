"""The reader of fairseq's log, and the watcher that runs a training and shows it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.support.errors import RecipeError
from recipes.training.training_log import Record, column, parse_line, parse_log, read_log
from recipes.training.watch import watch
from tests.support import processes
from tests.support.processes import PATIENCE, ROOT

# From a real training; the first lines are what else is in such a file.
EXCERPT = b"""\
/venv/lib/python3.11/site-packages/hydra/compose.py:56: UserWarning:
2026-11-22 10:23:20 | INFO | fairseq_cli.train | {'_name': None, 'common': {'seed': 1}}
2026-11-22 10:23:40 | INFO | train_inner | {"epoch": 1, "update": 0.111, "loss": "13.063", \
"nll_loss": "12.584", "adv_loss": "0.467466", "adv_gain": "0.09146", "num_updates": "10"}
2026-11-22 10:23:52 | INFO | train_inner | {"epoch": 1, "update": 0.222, "loss": "12.054", \
"nll_loss": "11.657", "adv_loss": "0.29421", "adv_gain": null, "num_updates": "20"}
2026-11-22 10:23:55 | INFO | valid | {"epoch": 1, "valid_loss": "11.339", \
"valid_nll_loss": "11.187", "valid_bleu": "0.01", "valid_num_updates": "20"}
2026-11-22 10:24:19 | INFO | train | {"epoch": 1, "train_loss": "11.913", "train_num_updates": "20"}
2026-11-22 10:24:19 | INFO | fairseq_cli.train | done training in 55.5 seconds
"""


def train_line(update: int, loss: float) -> bytes:
    return json.dumps({"num_updates": str(update), "loss": str(loss)}).encode() + b"\n"


def valid_line(update: int, bleu: float) -> bytes:
    return json.dumps({"valid_num_updates": str(update), "valid_bleu": str(bleu)}).encode() + b"\n"


def test_a_real_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "training.log"
    path.write_bytes(EXCERPT)
    log = read_log(path)
    assert column(log.train, "nll_loss") == ([10, 20], [12.584, 11.657])
    assert column(log.train, "adv_gain") == ([10], [0.09146])
    assert column(log.valid, "bleu") == ([20], [0.01])
    assert column(log.train, "interaction") == ([], [])


def test_a_continued_training_replaces_what_was_lost() -> None:
    first = train_line(10, 9) + valid_line(10, 1) + train_line(20, 8) + valid_line(20, 2)
    again = train_line(15, 7.5) + train_line(20, 7) + valid_line(20, 3)
    log = parse_log(first + b'{"num_updates": "25", "lo' + b"\n" + again, "log")
    assert column(log.train, "loss") == ([10, 15, 20], [9, 7.5, 7])
    assert column(log.valid, "bleu") == ([10, 20], [1, 3])


def test_a_validation_beyond_the_point_of_continuation_is_forgotten() -> None:
    log = parse_log(train_line(10, 9) + valid_line(30, 2) + train_line(20, 8), "log")
    assert log.valid == []


def test_lines_that_come_twice_count_once() -> None:
    assert parse_log(2 * train_line(10, 9), "log").train == [
        Record("train", 10, {"num_updates": 10, "loss": 9})
    ]


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b'{"num_updates": "1"', b"\xff\x00{}\n"])
def test_no_training_lines(content: bytes) -> None:
    with pytest.raises(RecipeError, match=r"^some\.log: no training lines"):
        parse_log(content, "some.log")


@pytest.mark.parametrize(
    "line",
    [
        b'{"num_updates": "nan"}',
        b'{"num_updates": -1}',
        b'{"num_updates": 1.5}',
        b'{"num_updates": true}',
        b'{"num_updates": null}',
        b'{"num_updates": 1' + 400 * b"0" + b"}",
        b'{"num_updates": 1' + 5000 * b"0" + b"}",
        b'{"a": ' + 100_000 * b"[",
        b"[1]",
    ],
)
def test_lines_that_are_no_records(line: bytes) -> None:
    assert parse_line(line) is None


def test_numbers_that_are_not_finite_are_left_out() -> None:
    record = parse_line(b'{"num_updates": 3, "loss": "inf", "ppl": NaN, "gnorm": 1e999, "lr": 1}')
    assert record == Record("train", 3, {"num_updates": 3, "lr": 1})


_PIECES = st.one_of(
    st.binary(max_size=40),
    st.builds(train_line, st.integers(), st.floats()),
    st.builds(valid_line, st.integers(), st.floats()),
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)
    .map(lambda value: json.dumps({"num_updates": value}).encode() + b"\n"),
)  # fmt: skip


@given(st.lists(_PIECES).map(b"".join))
def test_any_bytes_give_an_ordered_log_or_a_clear_error(content: bytes) -> None:
    try:
        log = parse_log(content, "some.log")
    except RecipeError as error:
        assert "some.log: no training lines" in str(error)
        return
    for records in (log.train, log.valid):
        updates = [record.update for record in records]
        assert updates == sorted(set(updates))


def test_watch_shows_a_line_per_validation_and_marks_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "training.log"
    log.write_bytes(train_line(10, 9) + valid_line(10, 4))  # before an interruption
    lines = [train_line(20, 8), valid_line(20, 3), valid_line(30, 5)]
    program = f"import sys; sys.stdout.buffer.write({b''.join(lines)!r})"
    watch([sys.executable, "-c", program], log, updates=30)
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [(row.split()[0], row.split()[4]) for row in rows] == [("20", "3.0"), ("30", "5.0*")]
    assert len(read_log(log).valid) == 3


def test_a_line_is_seen_when_it_is_made_also_in_a_file(tmp_path: Path) -> None:
    """The training goes on only after its validation has been seen."""
    shown, log = tmp_path / "shown", tmp_path / "training.log"
    program = f"""
import pathlib, sys, time
sys.stdout.buffer.write({train_line(10, 9) + valid_line(10, 4)!r})
sys.stdout.flush()
deadline = time.monotonic() + {PATIENCE}
while "4.0*" not in pathlib.Path({str(shown)!r}).read_text():
    if time.monotonic() > deadline:
        raise SystemExit("nothing is to be seen")
    time.sleep(0.05)
"""
    command = [sys.executable, "-m", "recipes.training.watch", "--log", str(log), "--updates", "10"]
    with shown.open("w") as stream:
        process = subprocess.run(
            [*command, "--", sys.executable, "-c", program],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            stdout=stream,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 0, process.stderr


def test_watch_shows_the_end_of_the_log_of_a_training_that_fails(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    log.write_bytes(b"of an earlier run\n")
    with pytest.raises(RecipeError) as caught:
        watch([sys.executable, "-c", "raise SystemExit('out of luck')"], log, updates=30)
    assert "exit status 1" in str(caught.value)
    assert str(caught.value).endswith("out of luck")
    assert "of an earlier run" not in str(caught.value)


def test_watch_takes_the_training_with_it_when_it_is_killed(tmp_path: Path) -> None:
    log = tmp_path / "training.log"
    sleeper = f"import os, time; print(os.getpid(), flush=True); time.sleep({PATIENCE})"
    watcher = processes.start(
        *(
            "recipes.training.watch",
            "--log",
            log,
            "--updates",
            9,
            "--",
            sys.executable,
            "-c",
            sleeper,
        )
    )
    processes.wait_until(lambda: log.exists() and log.read_bytes().endswith(b"\n"), of=watcher)
    watcher.terminate()
    processes.end(watcher, statuses=[130])
    with pytest.raises(ProcessLookupError):
        os.kill(int(log.read_bytes()), 0)


# Asked once, it finishes what it does, which takes for ever; asked twice, it ends.
STUBBORN = """
import os, signal, time

def hear(number, frame):
    global asked
    asked += 1
    print("asked", asked, flush=True)
    if asked == 2:
        raise SystemExit

asked = 0
signal.signal(signal.SIGTERM, hear)
print(os.getpid(), flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("by_a_recipe", [False, True])
def test_whoever_asks_twice_asks_the_training_twice(tmp_path: Path, by_a_recipe: bool) -> None:
    log = tmp_path / "training.log"
    command = [sys.executable, "-m", "recipes.training.watch", "--log", str(log), "--updates", "9"]
    command += ["--", sys.executable, "-c", STUBBORN]
    if by_a_recipe:
        command = ["bash", "-c", 'source recipes/training/job.sh; run "$@"', "recipe", *command]
    process = subprocess.Popen(command, cwd=processes.ROOT)
    for said in (b"\n", b"asked 1\n"):
        processes.wait_until(
            lambda said=said: log.exists() and log.read_bytes().endswith(said), of=process
        )
        process.terminate()
    try:
        assert process.wait(timeout=PATIENCE) == (143 if by_a_recipe else 130)
    finally:
        number = int(log.read_bytes().split()[0])
        with pytest.raises(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


SHARED = """
import os, sys
from pathlib import Path
from recipes.training.watch import watch
os.setuid(65534)
watch(["echo", "again"], Path(sys.argv[1]), 1)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_log_of_another_user_is_gone_on_with() -> None:
    """In a directory of results that is shared."""
    with tempfile.TemporaryDirectory() as name:  # pytest's own are for one user
        Path(name).chmod(0o777)
        log = Path(name) / "training.log"
        log.write_text("of the one before\n")
        log.chmod(0o644)
        command = [sys.executable, "-c", SHARED, str(log)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert log.read_text() == "of the one before\nagain\n"
