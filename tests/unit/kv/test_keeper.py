"""The supervisor's half of the KV store: every question is answered, what is read stays."""

import structlog
from tests.support.models.records import TAG, model_record, turn_commit

from hotseat.protocol.ids import BlockId, RequestKey
from hotseat.protocol.link_orders import Known
from hotseat.protocol.link_reports import BlockWritten, Lookup, TailWritten
from hotseat.protocol.tokens import pack_tokens, root_id
from hotseat.supervisor.catalogue.rows import KvFile
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.keeper import KvKeeper

READER, OTHER = RequestKey("c:reader"), RequestKey("c:other")
TAIL = "tails/1-1-x.kv"
NO_TEXT = b"an id is text, this is not"


class Told:
    def __init__(self):
        self.names = []
        self.worker = []
        self.sessions = []

    def publish(self, name, **facts):
        self.names.append(name)
        structlog.get_logger().info(name, **facts)


async def make(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    told = Told()
    keeper = KvKeeper(
        catalogue,
        tmp_path / "kv",
        told,
        told.worker.append,
        lambda *session: told.sessions.append(session),
    )
    return catalogue, keeper


async def ask(keeper, request=READER, blocks=()):
    sent = keeper._events.worker
    sent.clear()
    keeper.lookup(Lookup(request=request, blocks=blocks), model_record(), None)
    await keeper.flush()
    return list(sent)


async def make_with_tail(tmp_path):
    """A session whose tail is on disk."""
    catalogue, keeper = await make(tmp_path)
    place = tmp_path / "kv" / TAG / TAIL
    place.parent.mkdir(parents=True)
    place.write_bytes(b"tail")
    await catalogue.commit_turn(turn_commit([1, 2, 3]))
    report = TailWritten(
        session="s",
        parent=root_id(TAG),
        tokens=pack_tokens([1, 2, 3]),
        hint=b"",
        file=TAIL,
        size_bytes=4,
    )
    keeper.tail_written(report, model_record())
    await keeper.flush()
    return catalogue, keeper, place


async def test_question_that_meets_a_defect_is_answered_with_nothing(tmp_path):
    catalogue, keeper = await make(tmp_path)
    (answer,) = await ask(keeper, blocks=(NO_TEXT,))
    await catalogue.close()
    assert answer == Known(request=READER, count=0, tails=())


async def test_defect_of_a_commit_is_a_fault_of_the_checkpoint(tmp_path):
    catalogue, keeper = await make(tmp_path)
    report = BlockWritten(
        block=BlockId("b"), parent=root_id(TAG), index=2**80, file="b.kv", size_bytes=1, is_new=True
    )
    keeper.block_written(report, model_record())
    fault = await keeper.flush()
    await catalogue.close()
    assert fault is not None
    assert fault.code == "internal"


async def test_tail_that_a_request_reads_is_unlinked_when_that_ends(tmp_path):
    catalogue, keeper, place = await make_with_tail(tmp_path)
    (answer,) = await ask(keeper)
    files = await catalogue.delete_session("m", "s")
    await keeper.unlink(files)
    there_while_read = place.exists()
    keeper.release(READER)
    await keeper.flush()
    await catalogue.close()
    assert [tail.file for tail in answer.tails] == [TAIL]
    assert files == [KvFile(tag=TAG, file=TAIL, size_bytes=4)]
    assert there_while_read
    assert not place.exists()


async def test_tail_that_two_requests_read_waits_for_the_second_one(tmp_path):
    catalogue, keeper, place = await make_with_tail(tmp_path)
    await ask(keeper, READER)
    await ask(keeper, OTHER)
    await keeper.unlink(await catalogue.delete_session("m", "s"))
    keeper.release(READER)
    await keeper.flush()
    there_for_the_other = place.exists()
    keeper.release(OTHER)
    await keeper.flush()
    await catalogue.close()
    assert there_for_the_other
    assert not place.exists()


async def test_end_of_the_epoch_unlinks_what_waited_for_readers(tmp_path):
    catalogue, keeper, place = await make_with_tail(tmp_path)
    await ask(keeper)
    await keeper.unlink(await catalogue.delete_session("m", "s"))
    keeper.release_all()
    await keeper.flush()
    await catalogue.close()
    assert not place.exists()


async def test_session_whose_tail_was_committed_is_told(tmp_path):
    catalogue, keeper, _ = await make_with_tail(tmp_path)
    await catalogue.close()
    assert keeper._events.sessions == [("m", "s")]
