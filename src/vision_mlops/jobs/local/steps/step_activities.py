"""What a step does while it runs: its command or mini-batches as a process, after its environment was made ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from vision_mlops.core.errors import JobError
from vision_mlops.jobs.local.environments.build_process import FAILURE
from vision_mlops.jobs.local.steps.step_attempt import Attempt, parallel_command, write_repeat_script
from vision_mlops.jobs.local.steps.step_process import StepProcess


class Activity(Protocol):
    """What a step does while it runs: a process, or a sweep of them."""

    def start(self) -> None:
        """Begin."""

    def poll(self, free: int) -> int | None:
        """Exit code once it has ended; until then it may start ``free`` more processes."""

    def end(self) -> None:
        """Ask it to end; :meth:`poll` says when it has."""

    @property
    def slots(self) -> int:
        """How many processes it has at the moment."""

    @property
    def failed_rank(self) -> int:
        """Which of several processes of the same command failed first."""

    @property
    def message(self) -> str:
        """Why it failed, where its exit code does not say it."""


class CommandActivity:
    """A command, or the mini-batches of a parallel step, as a process."""

    slots = 1

    def __init__(self, attempt: Attempt) -> None:
        node = attempt.node
        command = parallel_command(attempt, attempt.folder) if node.parallel else attempt.command()
        self._attempt = attempt
        self._process = StepProcess(
            attempt.wrapped(command), attempt.work, attempt.environment(), attempt.folder,
            nodes=node.nodes, processes=node.processes, distributed=node.distribution == "pytorch", timeout=node.timeout,
            container=attempt.place.container,
        )  # fmt: skip
        write_repeat_script(attempt)

    def start(self) -> None:
        """Start it."""
        self._process.start()
        self._attempt.own(self._process.groups)

    def poll(self, free: int) -> int | None:
        """Exit code once it has ended."""
        return self._process.poll()

    def end(self) -> None:
        """Ask it to end."""
        self._process.end()

    @property
    def failed_rank(self) -> int:
        """The process that failed first."""
        return self._process.failed_rank

    @property
    def message(self) -> str:
        """Why it failed, where its exit code does not say it."""
        return f"ended by its timeout of {self._attempt.node.timeout} s" if self._process.timed_out else ""


class PreparedActivity:
    """An activity that begins once its environment is ready; no limit of the step counts the time that this takes.

    Args:
        order: Command that makes the environment ready.
        attempt: Of the step.
        activity: Gives what the step does then.
    """

    def __init__(self, order: list[str], attempt: Attempt, activity: Callable[[Attempt], Activity]) -> None:
        self._attempt = attempt
        self._open = activity
        self._preparing = StepProcess(order, attempt.folder, attempt.environment_of_preparation(), attempt.folder)
        self._activity: Activity | None = None
        self._ending = False

    def start(self) -> None:
        """Start to make it ready."""
        (self._attempt.folder / FAILURE).unlink(missing_ok=True)
        self._preparing.start()
        self._attempt.own(self._preparing.groups)

    def poll(self, free: int) -> int | None:
        """Exit code of the step, or of what was to make its environment ready."""
        if self._activity is not None:
            return self._activity.poll(free)
        code = self._preparing.poll()
        if code == 0 and not self._ending:
            if self._attempt.place.preparation(self._attempt.folder) is not None:
                # Whatever the reason: another environment must not run the step in its place.
                raise JobError(
                    f"its environment {self._attempt.place.label} was made ready, but is not there", "run the job again"
                )
            self._activity = self._open(self._attempt)
            self._activity.start()
            return None
        return code

    def end(self) -> None:
        """Ask it to end."""
        self._ending = True
        (self._preparing if self._activity is None else self._activity).end()

    @property
    def slots(self) -> int:
        """Processes of the step, or the one that makes its environment ready."""
        return 1 if self._activity is None else self._activity.slots

    @property
    def failed_rank(self) -> int:
        """Which process of the step failed first."""
        return 0 if self._activity is None else self._activity.failed_rank

    @property
    def message(self) -> str:
        """Why the step failed, or why its environment is not there."""
        if self._activity is not None:
            return self._activity.message
        file = self._attempt.folder / FAILURE
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else ["its environment cannot be made"]
        return " -> ".join(line for line in lines if line)
