"""What a backlog comes to where nothing happens to the run, and that another run of it comes to the same."""

from __future__ import annotations

from typing import Any, Final

from tests.chaos.stage import Ran, Stage
from tests.chaos.stories import STORIES, names

TWENTY: Final = names(loud=3, mend=1, keep=1, mute=1, lint=1, asks=13)

Account = dict[str, tuple[Any, ...]]


def worked(stage: Stage) -> Account:
    """What the backlog comes to where nobody is killed."""
    ran = stage.run("run", "--json", timeout_s=1500)
    assert ran.code == 1, ran
    stage.assert_once()
    stage.assert_nothing_left()
    account = stage.account()
    assert {name: how[0] for name, how in account.items()} == {
        name: STORIES[name.split("-")[0]].ends for name in stage.tickets
    }
    return account


def gone_on(stage: Stage, clean: Account) -> None:
    """Take the run up to its end, where it has not come to it: all is as in a run that nobody killed."""
    if stage.rows("SELECT state FROM runs") != [("finished",)]:
        ran = stage.run("runs", "resume", "--json", timeout_s=1500)
        assert ran.code == 1, ran
        assert ran.objects[-1]["event"] == "run.finished"
    alike(stage, clean)


def alike(stage: Stage, clean: Account) -> None:
    stage.assert_once()
    stage.assert_nothing_left()
    account = stage.account()
    differing = {name: (account.get(name), clean.get(name)) for name in {*account, *clean}}
    differing = {name: (found, wanted) for name, (found, wanted) in differing.items() if found != wanted}
    assert not differing, differing
    assert len(stage.branches()) == sum(changes is not None for _, _, _, changes, _ in account.values())


def verified(stage: Stage, ran: Ran) -> None:
    """The end of a run in which all is verified, as if nothing had happened."""
    assert ran.code == 0, ran
    assert set(stage.states().values()) == {"verified"}
    stage.assert_once()
    stage.assert_nothing_left()
