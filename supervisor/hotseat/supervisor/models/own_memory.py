"""Memory that hotseat's own processes hold, as last measured or reported. Measures nothing."""

from hotseat.supervisor.models.rules.working_set import WorkingSet


class OwnMemory:
    """One per daemon. What its processes hold is as good as available to the next model."""

    def __init__(self) -> None:
        self.worker_bytes: int | None = None
        """Footprint of the seated worker; None while none lives or none was measured."""
        self.worker_pid: int | None = None
        """Of whom that was measured."""
        self.standby_bytes = 0
        """Footprint of the standby."""
        self.standby_pid: int | None = None
        """Of whom that is measured; None while there is none."""
        self.ready_bytes = 0
        """Touched ahead for weights, by the standby and by the last one until they are loaded."""
        self.working_set: WorkingSet | None = None
        """What Metal recommends at most, as the last worker said, the standby included."""
        self.panic_report = ""
        """Name of the kernel panic after which weights are not wired unless somebody says so."""

    @property
    def returned_bytes(self) -> int:
        """What the seated worker would give back."""
        return self.worker_bytes or 0
