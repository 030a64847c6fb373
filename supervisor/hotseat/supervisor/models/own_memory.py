"""Memory that hotseat's own processes hold, as last measured or reported. Measures nothing."""

from collections.abc import Collection

from hotseat.protocol.model import ModelRecord
from hotseat.supervisor.models.rules.sizes import DEFAULT_STANDBY_BYTES
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
        self.taken_bytes = 0
        """Of the last one, which became a worker; 0 once that did something with its model."""
        self.taken_pid: int | None = None
        """Of that worker; None with `taken_bytes` 0."""
        self.tokenizers_of: Collection[str] = ()
        """Models whose tokenizers the standby has; those of the last one until the next starts."""
        self.standby_pid: int | None = None
        """Of whom that is measured; None while there is none."""
        self.loaded: ModelRecord | None = None
        """What the last worker loaded."""
        self.ready_bytes = 0
        """Touched ahead for weights, by the standby and by the last one until they are loaded."""
        self.working_set: WorkingSet | None = None
        """What Metal recommends at most, as the last worker said, the standby included."""
        self.panic_report = ""
        """Name of the kernel panic after which weights are not wired unless somebody says so."""

    @property
    def returned_bytes(self) -> int:
        """What the seated worker would give back."""
        return max((self.worker_bytes or 0) - self.taken_bytes, 0)

    def standby_beside(self, record: ModelRecord, *, in_group: bool) -> int:
        """What the standby takes while this model is seated; 0 where none was measured.

        In a control group, where little decides, as it will be: like the present one, but with
        the tokenizer of the model that leaves the seat and not that of the one that takes it.
        """
        if not in_group:
            return max(self.standby_bytes - self.ready_bytes, 0)
        held = max((self.standby_bytes or self.taken_bytes) - self.ready_bytes, 0)
        leaving = None if self.loaded is None else self.loaded.name
        is_seated = leaving == record.name and self.worker_pid is not None and not self.taken_bytes
        if not held or is_seated:
            return held
        if record.name in self.tokenizers_of:
            held = max(held - record.tokenizer_bytes, min(held, DEFAULT_STANDBY_BYTES))
        if self.loaded is None or leaving == record.name or leaving in self.tokenizers_of:
            return held
        return held + self.loaded.tokenizer_bytes
