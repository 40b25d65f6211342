"""What the daemon, the servers and the pages agree on stands in contract.json, and nowhere else."""

import ast
import datetime as dt
import re
from dataclasses import fields
from pathlib import Path

import pytest

from waportd import client, diagnosis, model
from waportd.alarms import SHARED
from waportd.config import Config
from waportd.config.model import Instances
from waportd.contract import CONTRACT, EXIT_CODES, SETTINGS, VARIABLES
from waportd.errors import WaportdError
from waportd.model import Assignment, Port, User
from waportd.server_client import NOT_ANSWERING, PASSKEY_REFUSALS
from waportd.summary import UNDELIVERED
from waportd.units import variables

ROOT = Path(__file__).resolve().parents[2]
ALL_STATES = {*CONTRACT["process_states"], *CONTRACT["session_states"]}
NOT_AS_WRITTEN = {
    *("webhook_secret", "webhook_headers", "browser_args"),  # lists and objects, in their own notation
    *("default_country", "engine", "web_version"),  # nothing, which has several spellings
}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (model.ProcessState, "process_states"),
        (model.SessionState, "session_states"),
        (model.PasskeyStage, "passkey_stages"),
        (model.Turn, "turns"),
        (model.Event, "events"),
        (model.Ignored, "ignored"),
    ],
)
def test_the_words_of_the_domain_are_those_of_the_contract(words, name):
    assert sorted(words) == sorted(CONTRACT[name])


def test_a_server_is_given_each_variable_and_no_other():
    assert set(variables(Assignment(User("2"), Port(5002)), Config())) == set(VARIABLES)


def test_each_setting_has_the_default_of_the_variable_that_carries_it():
    defaults = {entry.name: entry.default for entry in fields(Instances)}
    for name, variable in SETTINGS.items():
        assert name in defaults
        if name in NOT_AS_WRITTEN:
            continue
        shown = defaults[name]
        expected = variable.default
        if isinstance(shown, tuple):
            expected = tuple(expected) if isinstance(expected, list) else (expected,)
        assert shown == expected, name


def causes_of_processes():
    """Return what is written as a cause of a process in `diagnosis` and `starter`."""
    for module in ("diagnosis", "starter"):
        tree = ast.parse((ROOT / f"waportd/{module}.py").read_text("utf-8"))
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding":
                first = call.args[0]
                yield from [one.value for one in ast.walk(first) if isinstance(one, ast.Constant)]


def test_each_cause_of_a_process_is_in_the_contract_and_no_other():
    assert sorted(set(causes_of_processes())) == CONTRACT["causes"]["process"]


def test_each_refusal_of_a_passkey_is_one_of_the_servers_and_none_is_missing():
    passed_on = {code for codes in PASSKEY_REFUSALS.values() for code in codes}
    assert passed_on == {cause for cause in CONTRACT["causes"]["answer"] if "passkey" in cause}


def test_the_causes_that_only_the_daemon_finds_are_in_the_contract():
    assert CONTRACT["causes"]["daemon"] == [NOT_ANSWERING, UNDELIVERED]


def test_alarms_are_about_causes_of_the_contract_or_codes_of_errors():
    codes = {error.code for error in WaportdError.__subclasses__()}
    assert set(SHARED) <= {cause for group in CONTRACT["causes"].values() for cause in group} | codes


def test_each_exit_code_but_that_of_a_stop_is_explained():
    explained = {*diagnosis.EXIT_STATUS, EXIT_CODES["logged_out"]}
    assert explained == set(EXIT_CODES.values()) - {EXIT_CODES["stopped"]}


def strings(node):
    """Return the texts of an expression that is one, or a set, tuple or list of them."""
    parts = getattr(node, "elts", [node])
    return {part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def states_named_in(module):
    """Return what a module compares states with, and the members of its sets that have a state."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Compare) and getattr(node.left, "attr", "") in {"state", "status"}:
            yield from (text for side in node.comparators for text in strings(side))
        elif isinstance(node, ast.Set) and strings(node) & ALL_STATES:
            yield from strings(node)


def test_waportctl_knows_no_state_but_those_of_the_contract():
    modules = [*(ROOT / "waportd/cli").rglob("*.py"), ROOT / "waportd/client.py", ROOT / "waportd/compat.py"]
    named = {module.name: set(states_named_in(module)) for module in modules}
    assert {"qr_timeout", "crash_loop"} <= named["following.py"]
    strange = {name: texts - ALL_STATES for name, texts in named.items() if texts - ALL_STATES}
    assert strange == {}


@pytest.mark.parametrize("name", ["process_states", "session_states"])
@pytest.mark.parametrize("path", ["docs/architecture.md", "waportd/client.py"])
def test_each_list_of_states_that_a_person_reads_is_whole(path, name):
    words = [re.escape(word) for word in CONTRACT[name]]
    text = (ROOT / path).read_text("utf-8")
    assert re.search(r"(?:,| or|)\s+".join(words), text), f"{path} lists no or other {name}"


def test_the_client_which_is_one_file_agrees():
    now = dt.datetime.now(dt.UTC)
    waits = [dt.timedelta(seconds=model.UNDELIVERED_S + seconds) for seconds in (-10, 10)]
    assert [client.Webhook(queued=1, oldest_at=now - wait).stuck for wait in waits] == [False, True]
    assert client.Session().state in CONTRACT["session_states"]
