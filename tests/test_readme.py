"""README's code runs, and its commands exist."""

import re
from pathlib import Path

import pytest

from recjax.cli import COMMANDS

TEXT = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=["loop", "layers"])
def test_python_blocks_run(code, capsys):
    names: dict = {}
    # The text is ours, in this repository.
    exec(compile(code, "README.md", "exec"), names)
    if "logs" in names:
        losses = re.findall(r"^\d (\d\.\d+)", capsys.readouterr().out, re.MULTILINE)
        assert float(losses[-1]) < float(losses[0])
        assert names["items"].shape == (1, 10)
    else:
        assert names["smooth"].shape == (4, 16)


def test_commands_are_real():
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL))
    for words in re.findall(r"^recjax (.*)", shell, re.MULTILINE):
        assert any(words.startswith(command) for command in COMMANDS), words
