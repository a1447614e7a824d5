"""The trace formats, their mistakes, the tables and the command; and the known table of keep-alives where the data is."""

import gzip
import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mizzen.cli.failures import CommandError
from mizzen.cli.main import app
from mizzen.simulate.comparing import run
from mizzen.simulate.scenario import Scenario
from mizzen.simulate.traces import Counts, Requests, TraceError, load_times, read

DATA = Path(os.environ.get("MIZZEN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "serving"
FORMATS = {
    "azure.csv": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:47.6805900,5000,40\n2023-11-16 18:15:46.6805900,0,80\n",
    "mooncake.jsonl": '{"timestamp": 3000, "input_length": 0, "output_length": 80, "hash_ids": []}\n{"timestamp": 4000, "input_length": 5000, "output_length": 40, "hash_ids": []}\n',
}  # fmt: skip


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", FORMATS)
def test_language_model_traces_take_their_time_from_tokens(name: str, tmp_path: Path) -> None:
    trace = read(written(tmp_path, name, FORMATS[name]))
    assert isinstance(trace, Requests)
    ((arrivals, services),) = trace.endpoints.values()
    assert arrivals == [0.0, pytest.approx(1.0)]
    assert services == [pytest.approx(2.0), pytest.approx(2.0)]


def test_counts_are_read_plain_and_packed(tmp_path: Path) -> None:
    packed = tmp_path / "counts.txt.gz"
    packed.write_bytes(gzip.compress(b"3\n0\n5\n"))
    assert read(packed) == read(written(tmp_path, "counts.txt", "3\n0\n5\n")) == Counts([3, 0, 5])


def test_traces_of_many_endpoints_are_told_apart(tmp_path: Path) -> None:
    models = read(written(tmp_path, "g.csv", "gmt_create,exec_time_seconds,checkpoint_model_version_id\n"
                  "2024-11-15 16:57:50,32.0,M1\n2024-11-15 16:58:50,2.0,M0\n2024-11-15 16:59:50,,M0\n"))  # fmt: skip
    assert isinstance(models, Requests)
    assert models.endpoints == {"M0": ([60.0], [2.0]), "M1": ([0.0], [32.0])}
    functions = read(written(tmp_path, "f.csv", "app,func,end_timestamp,duration\naaaaaaaaaa,bbbbbbbbbb,57.5,57.0\n"))
    assert isinstance(functions, Requests)
    assert functions.endpoints == {"aaaaaaaa/bbbbbbbb": ([0.0], [57.0])}


WRONG = {
    "nothing": ("", "expected a number a line"),
    "something else": ("hello,world\n1,2\n", "expected a number a line"),
    "a word among the counts": ("3\nfour\n5\n", "four"),
    "a missing column": ("gmt_create,x\n2024-11-15 16:57:50,1\n", "exec_time_seconds"),
    "a time that is none": ("app,func,end_timestamp,duration\na,b,later,1\n", "later"),
    "a time below zero": ("app,func,end_timestamp,duration\na,b,5,-1\n", "at least 0"),
    "no row": ("app,func,end_timestamp,duration\n", "at least one request"),
    "half a line of JSON": ('{"timestamp": 3000, "input\n', "."),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_trace_is_refused_by_name(case: str, tmp_path: Path) -> None:
    text, message = WRONG[case]
    path = written(tmp_path, "trace", text)
    with pytest.raises(TraceError, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts.txt.gz"
    path.write_bytes(gzip.compress(b"3\n" * 10_000)[:-20])
    with pytest.raises(TraceError):
        read(path)


def test_load_times_must_be_there(tmp_path: Path) -> None:
    assert load_times(written(tmp_path, "l.csv", "timestamp_anon,value\n1,1500\n")) == [1.5]
    with pytest.raises(TraceError, match="column value"):
        load_times(written(tmp_path, "m.csv", "a,b\n1,2\n"))
    with pytest.raises(TraceError, match="at least one"):
        load_times(written(tmp_path, "n.csv", "value\n"))


def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    trace = written(tmp_path, "counts.txt", "\n".join(["20"] * 200 + ["90"] * 200))
    drawn = tmp_path / "out.svg"
    given = ["simulate", "scaling", "--trace", str(trace), "--plot", str(drawn)]
    found = CliRunner().invoke(app, given, catch_exceptions=False)
    assert found.exit_code == 0
    assert "22,000 requests" in found.output
    assert [line.split()[0] for line in found.output.splitlines()[2:]] == ["forecast", "reactive", "kpa", "fixed"]
    assert drawn.read_text().startswith("<svg")
    as_json = CliRunner().invoke(app, [*given[:4], "-o", "json"], catch_exceptions=False)
    assert {one["policy"]: one["requests"] for one in json.loads(as_json.output)}["kpa"] == 22_000
    as_markdown = CliRunner().invoke(app, [*given[:4], "-o", "markdown"], catch_exceptions=False)
    assert as_markdown.output.startswith("| policy | worker-hours |")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policies", "magic"], "expected one of forecast"),
        (["--min-replicas", "5", "--max-replicas", "3"], "at least --min-replicas"),
        (["--time-to-ready", "soon"], "--time-to-ready: expected a duration"),
        (["--service-time", "0s"], "more than 0s"),
        (["--plot", "x.png"], ".svg"),
    ],
)  # fmt: skip
def test_wrong_options_are_said(options: list[str], message: str, tmp_path: Path) -> None:
    trace = written(tmp_path, "counts.txt", "1\n")
    with pytest.raises(CommandError, match=message):
        CliRunner().invoke(app, ["simulate", "scaling", "--trace", str(trace), *options], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the recorded traces are not here: set MIZZEN_DATA")
def test_fixed_keep_alives_have_the_known_cold_starts() -> None:
    """GenTD26, 87 models: the cold shares that an independent count over the same file gave."""
    trace = read(DATA / "alibaba_gentd26" / "lora_request_trace.csv")
    for keep_s, cold in ((300.0, 0.207), (3600.0, 0.063)):
        scenario = Scenario(
            time_to_ready_s=0.1, timeout_s=300.0, min_replicas=0, max_replicas=8, scale_to_zero_after_s=keep_s
        )  # fmt: skip
        assert run(trace, scenario, "reactive").cold_share == pytest.approx(cold, abs=0.02)
