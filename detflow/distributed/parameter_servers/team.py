"""The chief of parameter servers as a team of one, whose steps others take."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import override

from detflow.distributed.parameter_servers.coordinator import Coordinator, lost_servers
from detflow.distributed.parameter_servers.steps import ScheduledSteps
from detflow.distributed.steps import BuildTrainee, Steps, Trainee
from detflow.distributed.team import Team
from detflow.distributed.topology import Topology
from detflow.text import count_noun


class ServersTeam(Team):
    """Evaluates and saves in this process, and has the workers of parameter servers take the steps.

    Args:
        coordinator: The connection to them.
        topology: Of the cluster.
    """

    def __init__(self, coordinator: Coordinator, topology: Topology) -> None:
        self._coordinator, self._topology = coordinator, topology

    @override
    def notes(self) -> Iterator[str]:
        workers, servers = self._topology.num_workers, len(self._topology.cluster["ps"])
        repeats = (
            "the run is that of one process"
            if workers == 1
            else "updates come as they come, so no other run has the same bits"
        )
        yield (
            f"{count_noun(workers, 'worker')}, {count_noun(servers, 'parameter server')}; {repeats}"
        )

    @override
    def build_steps(self, trainee: Trainee, build_trainee: BuildTrainee) -> Steps:
        with lost_servers():
            copy = build_trainee(self._coordinator.team)
            return ScheduledSteps(self._coordinator, trainee, copy)
