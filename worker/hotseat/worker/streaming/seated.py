"""A seated model of which some weights are on the disk: installing that, and what it tells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotseat.protocol.residence import Residence
from hotseat.worker.streaming.experts import ExpertBank, stream_experts
from hotseat.worker.streaming.layers import LayerRooms, stream_layers
from hotseat.worker.streaming.places import find_places
from hotseat.worker.streaming.reading import Readers


class Streaming:
    """Rooms, slots and open files of one seating."""

    def __init__(self, model: Any, files: Sequence[Path], residence: Residence) -> None:
        """Hooks a model that was loaded lazily. Raises NotStreamableError, OSError."""
        places = find_places(files)
        self.readers = Readers(dict.fromkeys(place.path for place in places.values()))
        self._rooms: list[LayerRooms] = []
        self._banks: list[ExpertBank] = []
        try:
            if residence.mode == "layers":
                self._rooms = stream_layers(
                    model, residence.streamed, residence.rooms, places, self.readers
                )
            else:
                self._banks = stream_experts(
                    model, residence.slots, residence.rooms, places, self.readers
                )
        except BaseException:
            self.close()
            raise

    @property
    def hits(self) -> tuple[int, int]:
        """Experts that were in memory when they were asked for, and all that were asked for."""
        return sum(bank.hits for bank in self._banks), sum(bank.asked for bank in self._banks)

    def close(self) -> None:
        """Ends all reading; the model cannot compute any more."""
        for rooms in self._rooms:
            rooms.rooms.close()
        for bank in self._banks:
            bank.close()
        self.readers.close()
