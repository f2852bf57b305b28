"""`flask export` and `flask import`: what the endpoints do, for the operator."""

import os
import pty
import select
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import Result
from flask import Flask

from chat_api.transfer import service
from tests.support.api import Api
from tests.support.cli import run_flask
from tests.support.server import INHERITED, REPOSITORY
from tests.support.uploads import PNG, uploaded
from tests.transfer.exports import (
    attachment,
    exported,
    file_of,
    imported,
    provider,
    restorable,
    whole,
)


def test_zip_carries_the_files_along(app: Flask, ada: Api, bob: Api, tmp_path: Path) -> None:
    said = ada.message(ada.conversation()["id"])
    cat = uploaded(ada, message_id=said["id"])
    file = tmp_path / "ada.zip"
    result = run(app, "export", email(ada), str(file))
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert zipfile.is_zipfile(file)
    result = run(app, "import", email(bob), str(file))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1] == "1 attachments got their content."
    with bob.get(cat["file_path"]) as response:
        assert response.get_data() == PNG
    # the same to a pipe, and what is missing is said
    assert run(app, "export", email(ada), "-", "--zip").stdout_bytes.startswith(b"PK")
    result = run(app, "export", email(ada), str(tmp_path / "ada.ndjson"))
    assert result.exit_code == 0
    result = run(app, "import", email(bob), str(tmp_path / "ada.ndjson"))
    assert "content" not in result.stdout


def run(app: Flask, *arguments: str, stdin: bytes | None = None) -> Result:
    return run_flask(lambda: app, *arguments, stdin=stdin)


def email(user: Api) -> str:
    address: str = user.user["email"]
    return address


def test_file_goes_out_of_one_account_and_into_another(
    app: Flask, ada: Api, bob: Api, tmp_path: Path
) -> None:
    talk = whole(3)
    imported(ada, file_of(*talk, attachment(talk[-1]), *whole(2)))
    file = tmp_path / "ada.ndjson"
    result = run(app, "export", email(ada).upper(), str(file))
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert restorable(orjson.loads(line) for line in file.read_bytes().splitlines()) == restorable(
        exported(ada)
    )
    assert file.stat().st_mode & 0o077 == 0  # nobody else's to read
    assert os.listdir(tmp_path) == ["ada.ndjson"]

    result = run(app, "import", email(bob), str(file))
    assert (result.exit_code, result.stdout) == (
        0, "Imported 2 conversations with 5 messages; 0 were here already, 0 failed.\n")  # fmt: skip
    assert restorable(exported(bob)) == restorable(exported(ada))
    result = run(app, "import", email(bob), str(file))
    assert "Imported 0 conversations with 0 messages; 2 were here already" in result.stdout


def test_dash_is_standard_output_and_standard_input(app: Flask, ada: Api, bob: Api) -> None:
    imported(ada, file_of(*whole(3)))
    result = run(app, "export", email(ada), "-")
    assert result.exit_code == 0
    lines = [orjson.loads(line) for line in result.stdout_bytes.splitlines()]
    assert restorable(lines) == restorable(exported(ada))
    result = run(app, "import", email(bob), "-", stdin=result.stdout_bytes)
    assert result.exit_code == 0, result.output
    assert restorable(exported(bob)) == restorable(exported(ada))


def test_import_names_broken_lines_and_fails(app: Flask, ada: Api, tmp_path: Path) -> None:
    fine, broken = whole(2), whole(2)
    file = tmp_path / "broken.ndjson"
    file.write_bytes(file_of(*fine, broken[0], b"oops", broken[2]))
    result = run(app, "import", email(ada), str(file))
    assert result.exit_code == 1
    assert "Imported 1 conversations with 2 messages; 0 were here already, 1 failed." in result.stdout
    assert "6: The line is not JSON" in result.stderr
    assert result.stderr.endswith("Error: Not everything could be imported.\n")
    file.write_bytes(b"hello")
    result = run(app, "import", email(ada), str(file))
    assert (result.exit_code, "no export" in result.stderr, "Traceback" in result.output) == (1, True, False)


def test_import_says_what_to_do_about_keys(app: Flask, ada: Api, bob: Api, tmp_path: Path) -> None:
    ada.config(ada.provider()["id"])
    file = tmp_path / "ada.ndjson"
    assert run(app, "export", email(ada), str(file)).exit_code == 0
    assert b"sk-" not in file.read_bytes()
    result = run(app, "import", email(bob), str(file))
    assert "store them again as user-llm-configs (it had 1)" in result.stdout


@pytest.mark.parametrize("command", ["export", "import"])
def test_account_that_is_not_there(app: Flask, tmp_path: Path, command: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    result = run(app, command, "nobody@example.org", str(file))
    assert (result.exit_code, result.stderr) == (1, "Error: There is no such user.\n")
    assert file.read_bytes() == b"kept"


def test_export_that_fails_leaves_what_was_there(
    app: Flask, ada: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ada.ndjson"
    file.write_bytes(b"the last one")
    imported(ada, file_of(provider(), *whole(2)))

    def breaks_off(user_id: str) -> Iterator[bytes]:
        yield from list(write(user_id))[:1]
        raise OSError(28, "No space left on device")

    write = service.export_all
    monkeypatch.setattr(service, "export_all", breaks_off)
    result = run(app, "export", email(ada), str(file))
    assert (result.exit_code, "No space left" in result.stderr) == (1, True), result.output
    assert (os.listdir(tmp_path), file.read_bytes()) == (["ada.ndjson"], b"the last one")
    result = run(app, "export", email(ada), str(tmp_path / "no" / "folder"))
    assert (result.exit_code, "No such file or directory" in result.stderr) == (1, True), result.output
    monkeypatch.undo()
    # a link stays one
    link = tmp_path / "link"
    link.symlink_to(file)
    assert run(app, "export", email(ada), str(link)).exit_code == 0
    assert link.is_symlink()
    assert b'"end"' in file.read_bytes()
    # what is no file is written to
    assert run(app, "export", email(ada), os.devnull).exit_code == 0
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize(("command", "label"), [("export", "Messages"), ("import", "Bytes")])
def test_progress_is_shown_on_a_terminal(
    app: Flask, ada: Api, tmp_path: Path, command: str, label: str
) -> None:
    imported(ada, file_of(*whole(200)))
    file = tmp_path / "ada.ndjson"
    assert run(app, "export", email(ada), str(file)).exit_code == 0
    url = app.config["DATABASE_URL"]
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {"DATABASE_URL": url, "DATA_DIR": str(tmp_path / "data"), "TERM": "xterm"}
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "wsgi", command, email(ada), str(file)],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=its_end)  # fmt: skip
    os.close(its_end)
    shown, _ = read_all(terminal), process.communicate(timeout=60)
    assert process.returncode == 0, shown
    assert label in shown
    assert "100%" in shown


def read_all(terminal: int) -> str:
    """What is written to a terminal until nobody has it open any more."""
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # as Linux says it
            break
        if not chunk:
            break
        shown += chunk
    os.close(terminal)
    return shown.decode()
