"""Who is let in: this machine, and others with a name and a password."""

import os

import pytest
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

from flows import serving
from storage.errors import InputError

KEY = "PREFECT_SERVER_API_AUTH_STRING"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING")


@pytest.mark.parametrize("command", ["ui", "serve"])
@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "2001:db8::1"])
def test_others_are_not_let_in_without_a_password(prism, tmp_path, command, host):
    code, out, err = prism(command, "--host", host, "--store", tmp_path / "new")
    assert (code, out) == (2, "")
    assert f"--host {host} lets others in, and nothing keeps them out; set {KEY}=name:password" in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("access", ["short:1234567", "nopassword", ":12345678", "name:"])
def test_a_password_that_is_none_is_not_enough_and_not_shown(access):
    with (
        temporary_settings({PREFECT_SERVER_API_AUTH_STRING: access}),
        pytest.raises(InputError, match="its password is too short") as raised,
    ):
        serving._check_access("0.0.0.0")
    assert access not in str(raised.value).replace("name:password", "")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_with_a_password_this_machines_own_runs_have_it(host):
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "prism:long-enough"}):
        serving._check_access(host)
    assert os.environ["PREFECT_API_AUTH_STRING"] == "prism:long-enough"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1"])
def test_this_machine_alone_needs_no_password(host):
    serving._check_access(host)
    assert "PREFECT_API_AUTH_STRING" not in os.environ


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:4200/api"),
        ("0.0.0.0", "http://127.0.0.1:4200/api"),
        ("::", "http://127.0.0.1:4200/api"),
        ("192.168.1.5", "http://192.168.1.5:4200/api"),
        ("::1", "http://[::1]:4200/api"),
    ],
)
def test_this_machines_runs_find_the_server_wherever_it_listens(host, address):
    assert serving._address(host, 4200) == address


def test_a_host_that_is_no_address_is_a_sentence(prism, tmp_path):
    code, _, err = prism("ui", "--host", "localhost;rm", "--store", tmp_path / "new")
    assert code == 2
    assert "--host 'localhost;rm' is no address; give one like 127.0.0.1, or 0.0.0.0 for all" in err


def test_an_address_is_shown_without_the_password_in_it():
    assert serving._shown("https://me:s3cret@host:1/api") == "https://host:1/api"
