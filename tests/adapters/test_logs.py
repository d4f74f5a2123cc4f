import itertools
import json
import logging
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.logs import AccessLog, LineSink, TransitionLog, take_over_logging
from sidecar.adapters.logs.access import BATCH_LINES, FLUSH_INTERVAL
from sidecar.adapters.logs.form import JSON_FORM, LineForm, form_of
from sidecar.adapters.logs.json_line import JsonFormatter, Timestamp
from sidecar.core.circuit.explanation import Cause, OverrideMode, Standing, State, Transition, WindowView
from sidecar.core.config import LogFormat, LogLevel, LogSettings
from sidecar.core.http.heads import Headers
from sidecar.core.report import Moment, sentence
from sidecar.pipeline.record import ExchangeRecord

ROOT = Path(__file__).resolve().parents[2]
RECORD = ExchangeRecord(
    route="catalog",
    method="GET",
    target=b"/items?q=1",
    status=200,
    source="upstream",
    duration=0.0123456,
    bytes_sent=1024,
    request_id=b"id-1",
    client="127.0.0.1:5000",
    attempts=2,
)


class Pipe:
    """Standard output as a pipe whose reader the test plays."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def lines(self) -> list[dict[str, Any]]:
        """What was written, once the writing end is closed."""
        os.close(self.writing)
        with os.fdopen(self.reading, "rb") as file:
            return [json.loads(line) for line in file.read().splitlines()]


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


class Batches:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []

    def write(self, batch: bytes, lines: int) -> None:
        assert batch.count(b"\n") == lines
        self.batches.append(batch)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in b"".join(self.batches).splitlines()]


class Timers:
    """An event loop's `call_later` of which the test is the clock."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.waiting.append((delay, callback))

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, callback in waiting:
            callback()


# The access log


def access_log(sink: LineSink | Batches, timers: Timers, form: LineForm = JSON_FORM) -> AccessLog:
    return AccessLog(sink.write, timers.call_later, wall=lambda: 1_764_000_000.25, form=form)


def line_of(record: ExchangeRecord, form: LineForm = JSON_FORM) -> str:
    sink = Batches()
    log = access_log(sink, Timers(), form)
    log(record)
    log.flush()
    return b"".join(sink.batches).decode("ascii")


def test_a_finished_request_is_one_json_line() -> None:
    sink, timers = Batches(), Timers()
    access_log(sink, timers)(RECORD)
    timers.fire()
    assert sink.lines == [
        {
            "time": "2025-11-24T16:00:00.250Z",
            "level": "info",
            "logger": "sidecar.access",
            "message": "request",
            "route": "catalog",
            "method": "GET",
            "target": "/items?q=1",
            "status": 200,
            "source": "upstream",
            "duration_ms": 12.346,
            "bytes_sent": 1024,
            "request_id": "id-1",
            "client": "127.0.0.1:5000",
            "attempts": 2,
        }
    ]


@pytest.mark.parametrize(
    ("changes", "added"),
    [
        ({"reason": "circuit_open", "detail": 'it said "no"'}, {"reason": "circuit_open", "detail": 'it said "no"'}),
        ({"aborted": True}, {"aborted": True}),
        (
            {"reason": "connection_terminated", "aborted": True},
            {"reason": "connection_terminated", "detail": "", "aborted": True},
        ),
        (
            {"reason": "connection_refused", "detail": "nobody there", "error": "connection_refused"},
            {"reason": "connection_refused", "detail": "nobody there", "error": "connection_refused"},
        ),
        (
            {"detail": "nobody there", "error": "connection_refused", "stale_because": "upstream_error"},
            {"detail": "nobody there", "error": "connection_refused", "stale_because": "upstream_error"},
        ),
        ({"stale_because": "circuit_open"}, {"stale_because": "circuit_open"}),
    ],
    ids=["refused", "left", "cut short", "the upstream's error", "stood in", "stood in at once"],
)
def test_what_went_wrong_is_said(changes: dict[str, Any], added: dict[str, Any]) -> None:
    line = json.loads(line_of(RECORD._replace(**changes)))
    assert {key: line[key] for key in line.keys() - json.loads(line_of(RECORD)).keys()} == added


TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = (b"traceparent", b"00-%b-00f067aa0ba902b7-01" % TRACE)


def json_form(**settings: Any) -> LineForm:
    return form_of(LogSettings(format=LogFormat.JSON, **settings), terminal=False)


def test_what_is_known_of_the_upstream_and_of_the_trace_is_said() -> None:
    known = RECORD._replace(upstream_time=0.0101, endpoint="10.0.0.1:80", headers=Headers([TRACEPARENT]))
    line = json.loads(line_of(known))
    assert (line["upstream_ms"], line["endpoint"], line["trace_id"]) == (10.1, "10.0.0.1:80", TRACE.decode())


def test_the_readme_lists_every_field_of_a_line() -> None:
    readme = (ROOT / "README.md").read_text()
    table = re.search(r"^\| field \| tells \|\n(?:\|.*\n)+", readme, re.MULTILINE)
    assert table is not None
    listed = {name for row in table[0].splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    everything = RECORD._replace(
        upstream_time=1.0, endpoint="a:1", headers=Headers([TRACEPARENT]), answered=Headers([(b"age", b"1")]),
        reason="r", detail="d", error="e", stale_because="s", fallback="f", aborted=True,
    )  # fmt: skip
    line = json.loads(line_of(everything, json_form(headers=("age", "traceparent"))))
    assert listed == line.keys()


@pytest.mark.parametrize("field", [b"", b"00-x", b'","level":"error', b"00-%b-00f067aa0ba902b7-01" % (b"0" * 32)])
def test_an_invalid_traceparent_is_no_trace(field: bytes) -> None:
    line = json.loads(line_of(RECORD._replace(headers=Headers([(b"Traceparent", field)]))))
    assert not {"trace_id", "upstream_ms", "endpoint"} & line.keys()


def test_fields_are_shown_where_that_is_wanted_and_secrets_only_by_name() -> None:
    asked = Headers([(b"User-Agent", b"x" * 300), (b"Cookie", b"s3cret"), (b"X-Other", b"1")])
    answered = Headers([(b"Set-Cookie", b"s3cret"), (b"Content-Type", b"\xff")])
    shown = json_form(headers=("user-agent", "cookie", "set-cookie", "content-type", "age"))
    record = RECORD._replace(headers=asked, answered=answered)
    line = json.loads(line_of(record, shown))
    assert line["request_headers"] == {"user-agent": "x" * 256, "cookie": "(redacted)"}
    assert line["response_headers"] == {"set-cookie": "(redacted)", "content-type": "\\xff"}
    assert not {"request_headers", "response_headers"} & json.loads(line_of(record)).keys()
    assert (
        json.loads(line_of(record, json_form(headers=("cookie",), redact=())))["request_headers"]["cookie"] == "s3cret"
    )


@pytest.mark.parametrize("form", [LogFormat.JSON, LogFormat.TEXT], ids=lambda it: it.value)
def test_of_a_secret_parameter_only_the_name_is_shown(form: LogFormat) -> None:
    settings = LogSettings(format=form, redact_query=frozenset({"q"}))
    line = line_of(RECORD._replace(target=b"/items?q=s3cret&x=1"), form_of(settings, terminal=False))
    assert "/items?q=(redacted)&x=1" in line
    assert "s3cret" not in line


# Which requests have a line


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({}, 25),
        ({"status": 404}, 25),
        ({"status": 500}, 100),
        ({"reason": "circuit_open"}, 100),
        ({"error": "connection_refused"}, 100),
        ({"stale_because": "circuit_open"}, 100),
        ({"aborted": True}, 100),
    ],
)
def test_of_what_went_well_a_share_is_noted(changes: dict[str, Any], noted: int) -> None:
    sink = Batches()
    chances = itertools.cycle([0.0, 0.25, 0.5, 0.75])
    log = AccessLog(sink.write, Timers().call_later, lambda: 0.0, sample=0.25, chance=lambda: next(chances))
    for _ in range(100):
        log(RECORD._replace(**changes))
    log.flush()
    assert len(sink.lines) == noted


def test_a_share_of_nothing_notes_nothing_but_failures() -> None:
    sink = Batches()
    log = AccessLog(sink.write, Timers().call_later, lambda: 0.0, sample=0.0, chance=lambda: 0.0)
    log(RECORD)
    log(RECORD._replace(status=502))
    log.flush()
    assert [line["status"] for line in sink.lines] == [502]


HOSTILE = [bytes(range(256)), b'"},{"level":"error', b"\\u0041\\", b"\xff\xfe\x80", "é\u2028\U0001f600".encode(), b""]


@pytest.mark.parametrize("octets", HOSTILE, ids=["all octets", "quotes", "escapes", "no UTF-8", "UTF-8", "empty"])
def test_no_octets_break_a_line_or_forge_one(octets: bytes) -> None:
    text = octets.decode("latin-1")
    hostile = RECORD._replace(target=octets, request_id=octets, client=text, route=text, reason="x", detail=text)
    line = line_of(hostile)
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert line.isascii()
    parsed = json.loads(line)
    assert (parsed["client"], parsed["route"], parsed["detail"], parsed["level"]) == (text, text, text, "info")
    assert parsed["target"] == parsed["request_id"] == octets.decode("utf-8", "backslashreplace")


def test_noting_a_request_writes_nothing_until_the_batch_is_due() -> None:
    sink, timers = Batches(), Timers()
    log = access_log(sink, timers)
    for _ in range(3):
        log(RECORD)
    assert sink.batches == []
    assert [delay for delay, _ in timers.waiting] == [FLUSH_INTERVAL]
    timers.fire()
    assert [batch.count(b"\n") for batch in sink.batches] == [3]


def test_a_full_batch_is_due_at_once() -> None:
    sink, timers = Batches(), Timers()
    log = access_log(sink, timers)
    for _ in range(BATCH_LINES):
        log(RECORD)
    assert [delay for delay, _ in timers.waiting] == [FLUSH_INTERVAL, 0]
    timers.fire()
    assert [batch.count(b"\n") for batch in sink.batches] == [BATCH_LINES]
    log(RECORD)
    assert [delay for delay, _ in timers.waiting] == [FLUSH_INTERVAL]


def test_a_full_batch_is_about_64_kib() -> None:
    assert 48 * 1024 < len(line_of(RECORD)) * BATCH_LINES < 96 * 1024


def test_the_last_lines_are_flushed_at_shutdown(pipe: Pipe) -> None:
    sink = LineSink(pipe.writing)
    log = access_log(sink, Timers())
    log(RECORD)
    log.flush()
    log.flush()
    sink.close()
    assert len(pipe.lines()) == 1


def test_each_line_has_the_time_at_which_its_request_ended() -> None:
    times = iter([1_764_000_000.0, 1_764_000_000.001, 1_764_000_061.5])
    sink, timers = Batches(), Timers()
    log = AccessLog(sink.write, timers.call_later, wall=lambda: next(times))
    for _ in range(3):
        log(RECORD)
    timers.fire()
    assert [line["time"][11:] for line in sink.lines] == ["16:00:00.000Z", "16:00:00.001Z", "16:01:01.500Z"]


def test_a_wall_clock_that_steps_back_is_shown_as_it_is() -> None:
    stamp = Timestamp()
    assert [stamp(at) for at in (10.5, 9.75, 10.5)] == [
        "1970-01-01T00:00:10.500Z",
        "1970-01-01T00:00:09.750Z",
        "1970-01-01T00:00:10.500Z",
    ]


# The sink


def fill(pipe: Pipe) -> int:
    """Make a pipe that takes no more without blocking; returns what fits."""
    os.set_blocking(pipe.writing, False)
    filled = 0
    try:
        while True:
            filled += os.write(pipe.writing, b" " * 4096)
    except BlockingIOError:
        os.set_blocking(pipe.writing, True)
        return filled


def drain(pipe: Pipe, count: int) -> None:
    while count:
        count -= len(os.read(pipe.reading, count))


def test_a_reader_that_stops_reading_costs_lines_and_no_waiting(pipe: Pipe) -> None:
    filled = fill(pipe)
    sink = LineSink(pipe.writing, limit=80)
    for number in range(10):
        sink.write(b'{"message":"%d"}\n' % number, 1)
    assert sink.dropped == 5
    drain(pipe, filled)
    sink.close()
    assert [line["message"] for line in pipe.lines()] == ["0", "1", "2", "3", "4"]


def test_lost_lines_are_counted_and_reported_when_there_is_room_again(pipe: Pipe) -> None:
    filled = fill(pipe)
    sink = LineSink(pipe.writing, limit=40)
    sink.write(b'{"message":"kept"}\n', 1)
    sink.write(b'{"message":"lost"}\n' * 3, 3)
    assert sink.dropped == 3
    drain(pipe, filled)
    wait_until_written(sink)
    sink.write(b'{"message":"later"}\n', 1)
    sink.close()
    kept, notice, later = pipe.lines()
    assert (kept["message"], later["message"]) == ("kept", "later")
    assert (notice["message"], notice["lines"], notice["level"]) == ("log lines were dropped", 3, "warning")


def wait_until_written(sink: LineSink) -> None:
    written = threading.Event()
    while sink.pending:
        written.wait(0.001)


def test_a_reader_that_went_away_ends_nothing(pipe: Pipe) -> None:
    os.close(pipe.reading)
    sink = LineSink(pipe.writing)
    sink.write(b"{}\n", 1)
    sink.write(b"{}\n{}\n", 2)
    sink.close()
    assert sink.dropped == 3
    os.close(pipe.writing)


def test_lost_lines_are_told_in_the_form_of_the_others(pipe: Pipe) -> None:
    filled = fill(pipe)
    sink = LineSink(pipe.writing, limit=5, settings=LogSettings(format=LogFormat.TEXT))
    sink.write(b"too long\n", 1)
    drain(pipe, filled)
    sink.write(b"ok\n", 1)
    sink.close()
    os.close(pipe.writing)
    with os.fdopen(pipe.reading, "rb") as file:
        notice, line = file.read().splitlines()
    assert notice.endswith(b"WARNING log lines were dropped lines=1")
    assert line == b"ok"


def test_a_descriptor_in_non_blocking_mode_loses_nothing(pipe: Pipe) -> None:
    filled = fill(pipe)
    os.set_blocking(pipe.writing, False)
    sink = LineSink(pipe.writing)
    sink.write(b'{"message":"waited"}\n', 1)
    drain(pipe, filled)
    sink.close()
    assert [line["message"] for line in pipe.lines()] == ["waited"]


def test_closing_gives_up_on_a_reader_that_does_not_read(pipe: Pipe) -> None:
    filled = fill(pipe)
    sink = LineSink(pipe.writing)
    sink.write(b"{}\n", 1)
    sink.close(timeout=0.01)
    drain(pipe, filled)
    wait_until_written(sink)
    assert pipe.lines() == [{}]


def test_lines_of_many_threads_stay_whole(pipe: Pipe) -> None:
    sink = LineSink(pipe.writing)
    line = json.dumps({"message": "x" * 500}).encode() + b"\n"

    def write() -> None:
        for _ in range(20):
            sink.write(line, 1)

    threads = [threading.Thread(target=write) for _ in range(4)]
    reader = threading.Thread(target=lambda: seen.extend(pipe.lines()))
    seen: list[dict[str, Any]] = []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    reader.start()
    reader.join()
    assert len(seen) == 80


# The logging tree


@contextmanager
def logging_into(sink: Batches, level: LogLevel = LogLevel.INFO, form: LineForm = JSON_FORM) -> Iterator[None]:
    """The logging tree in the hands of `sink`, given back afterwards."""
    root = logging.getLogger()
    handlers, level_before = root.handlers[:], root.level
    root.handlers[:] = []  # basicConfig would close the test runner's own
    try:
        take_over_logging(sink.write, level, form.formatter)
        yield
    finally:
        logging.captureWarnings(capture=False)
        root.handlers[:] = handlers
        root.setLevel(level_before)


def test_a_log_record_is_one_json_line_with_its_extras() -> None:
    sink = Batches()
    with logging_into(sink):
        logging.getLogger("sidecar.x").warning("%d\nthings", 2, extra={"route": "catalog", "count": 3})
        logging.getLogger("sidecar.x").debug("unheard")
    (line,) = sink.lines
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "sidecar.x", "message": "2\nthings", "route": "catalog", "count": 3}


@pytest.mark.parametrize("level", LogLevel, ids=lambda it: it.value)
def test_only_lines_that_are_severe_enough_are_written(level: LogLevel) -> None:
    sink = Batches()
    with logging_into(sink, level):
        for each in LogLevel:
            logging.getLogger("sidecar.x").log(getattr(logging, each.name), each.value)
    levels = [each.value for each in LogLevel]
    assert [line["message"] for line in sink.lines] == levels[levels.index(level.value) :]


def test_an_exception_is_a_text_of_its_line() -> None:
    sink = Batches()
    with logging_into(sink):
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            logging.getLogger("sidecar.x").exception("failed")
    (line,) = sink.lines
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("RuntimeError: broken")


def test_a_stack_is_a_text_of_its_line() -> None:
    sink = Batches()
    with logging_into(sink):
        logging.getLogger("sidecar.x").error("here", stack_info=True)
    assert sink.lines[0]["stack"].startswith("Stack (most recent call last):")


def test_warnings_of_python_are_logged() -> None:
    sink = Batches()
    with logging_into(sink), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert [line["logger"] for line in sink.lines] == ["py.warnings"]


CIRCLE: list[object] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    "extra",
    [float("nan"), float("inf"), object(), {1, 2}, b"\xff", CIRCLE, {(1, 2): 3}, "\ud800"],
    ids=["NaN", "infinity", "object", "set", "bytes", "circle", "odd key", "lone surrogate"],
)
def test_an_extra_that_json_has_no_words_for_still_makes_a_valid_line(extra: object) -> None:
    record = logging.makeLogRecord({"msg": "m", "levelname": "INFO", "name": "n", "extra": extra})
    line = JsonFormatter().format(record)

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(line, parse_constant=refuse)["message"] == "m"
    assert line.isascii()


def test_a_wrong_log_call_is_reported_and_does_not_raise(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Batches()
    with logging_into(sink):
        logging.getLogger("sidecar.x").warning("%d", "no number")  # noqa: PLE1205, RUF100 - this is the mistake
    assert sink.batches == []
    assert "Logging error" in capsys.readouterr().err


# Transitions


@pytest.mark.parametrize(
    ("target", "level"),
    [
        (State.OPEN, "warning"),
        (OverrideMode.FORCED_OPEN, "warning"),
        (State.HALF_OPEN, "info"),
        (State.CLOSED, "info"),
        (OverrideMode.FORCED_CLOSED, "info"),
    ],
    ids=lambda it: getattr(it, "value", it),
)
def test_a_transition_is_one_line_in_the_words_of_the_api(target: Standing, level: str) -> None:
    transition = Transition(
        "catalog", State.CLOSED, target, Cause.FAILURE_RATE, 990.0, "75% of 8", WindowView(8, 6), config_ref="a.yaml:3"
    )
    sink = Batches()
    with logging_into(sink):
        TransitionLog(lambda: Moment(1000.0, 1_764_000_000.0))(transition)
    (line,) = sink.lines
    assert (line["message"], line["level"], line["circuit"]) == (sentence(transition), level, "catalog")
    assert (line["from"], line["to"], line["cause"]) == ("closed", target.value, "failure_rate")
    assert (line["window"]["failure_rate"], line["config_ref"]) == (0.75, "a.yaml:3")


# Text, for people

TEXT, COLOURED = (form_of(LogSettings(format=LogFormat.TEXT), terminal=terminal) for terminal in (False, True))
ESCAPE = "\x1b"


def text_of(record: ExchangeRecord, form: LineForm = TEXT) -> str:
    line = line_of(record, form)
    assert line.endswith("\n")
    return line.removesuffix("\n")


@pytest.mark.parametrize(
    ("wanted", "terminal", "is_text", "coloured"),
    [
        (LogFormat.AUTO, True, True, True),
        (LogFormat.AUTO, False, False, False),
        (LogFormat.TEXT, True, True, True),
        (LogFormat.TEXT, False, True, False),
        (LogFormat.JSON, True, False, False),
        (LogFormat.JSON, False, False, False),
    ],
)
def test_the_form_suits_who_reads(
    wanted: LogFormat, monkeypatch: pytest.MonkeyPatch, *, terminal: bool, is_text: bool, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    form = form_of(LogSettings(format=wanted), terminal=terminal)
    lines = [line_of(RECORD, form), form.formatter.format(logging.makeLogRecord({"msg": "m", "levelname": "INFO"}))]
    assert [line.startswith("{") for line in lines] == [not is_text] * 2
    assert [ESCAPE in line for line in lines] == [coloured] * 2
    monkeypatch.setenv("NO_COLOR", "1")
    assert ESCAPE not in line_of(RECORD, form_of(LogSettings(format=wanted), terminal=terminal))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "16:00:00.250 200 GET /items?q=1 12.3ms 1.0KiB upstream catalog id-1"),
        (
            {"status": 503, "source": "circuit", "reason": "circuit_open", "detail": "next probe in 3 s", "route": ""},
            "16:00:00.250 503 GET /items?q=1 12.3ms 1.0KiB circuit id-1 circuit_open next probe in 3 s",
        ),
        (
            {"source": "stale", "error": "connection_refused", "duration": 12.34, "bytes_sent": 3},
            "16:00:00.250 200 GET /items?q=1 12.3s 3B stale catalog id-1 connection_refused",
        ),
    ],
)
def test_a_request_is_one_short_line(changes: dict[str, Any], line: str) -> None:
    assert text_of(RECORD._replace(**changes)) == line


LONG = b"x" * 16_000


@pytest.mark.parametrize("octets", [*HOSTILE, LONG, "\u6f22".encode() * 200], ids=range(len(HOSTILE) + 2))
def test_a_request_line_stays_below_160_columns_and_commands_no_terminal(octets: bytes) -> None:
    text = octets.decode("latin-1")
    hostile = RECORD._replace(target=octets, request_id=octets, route=text[:100], reason="x", detail=text)
    for record in (hostile, RECORD._replace(target=LONG), RECORD._replace(method=text), hostile._replace(method=text)):
        line = text_of(record)
        assert len(line) < 160
        assert line.isascii()
        assert line.isprintable()
    assert len(text_of(RECORD._replace(target=LONG))) == 159
    assert " 12.3ms 1.0KiB upstream catalog id-1" in text_of(RECORD._replace(target=LONG))


def text_lines(message: str, level: int = logging.INFO, **extra: Any) -> list[str]:
    record = logging.makeLogRecord(
        {"msg": message, "levelno": level, "levelname": logging.getLevelName(level), "created": 0.25, **extra}
    )
    return TEXT.formatter.format(record).split("\n")


def test_a_log_record_is_a_line_with_what_its_message_does_not_say() -> None:
    assert text_lines("proxy listens on :80", listener="proxy", address=":80") == [
        "00:00:00.250 INFO    proxy listens on :80"
    ]
    assert text_lines("bad", logging.ERROR, errors=["1:2: x", "3:4: y"], request_id="r-1", window={"requests": 1}) == [
        "00:00:00.250 ERROR   bad request_id=r-1",
        "    1:2: x",
        "    3:4: y",
    ]


def test_nothing_in_a_message_breaks_a_line_or_commands_a_terminal() -> None:
    (line,) = text_lines("a\nb\x1b[31m\u2192\ud800", id="\x07")
    assert line == "00:00:00.250 INFO    a\\nb\\x1b[31m\u2192\\ud800 id=\\x07"


def test_an_exception_stands_below_its_line() -> None:
    sink = Batches()
    with logging_into(sink, form=COLOURED):
        try:
            raise RuntimeError("bro\nken")
        except RuntimeError:
            logging.getLogger("sidecar.x").exception("failed", stack_info=True)
    lines = b"".join(sink.batches).decode().splitlines()
    assert lines[0].endswith(" failed")
    assert lines[1] == "    Traceback (most recent call last):"
    assert "    Stack (most recent call last):" in lines
