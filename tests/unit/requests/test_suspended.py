"""Suspended requests on disk: what is left of them when their request is over."""

import structlog
from tests.support.models.records import TAG, model_record, turn_commit

from hotseat.protocol.ids import RequestKey
from hotseat.protocol.link_orders import Known
from hotseat.protocol.link_reports import Lookup
from hotseat.protocol.tokens import block_chain, root_id
from hotseat.supervisor.catalogue.rows import BlockRow
from hotseat.supervisor.catalogue.store import Catalogue
from hotseat.supervisor.kv.keeper import KvKeeper
from hotseat.supervisor.requests.suspended import SuspendedRuns, hidden_name
from hotseat.supervisor.seat.seat import Seat

TOKENS = list(range(300))
ALIVE, ENDED = RequestKey("c:alive"), RequestKey("c:ended")


class NoEvents:
    def publish(self, name, **facts):
        structlog.get_logger().info(name, **facts)


async def make(tmp_path):
    catalogue = await Catalogue.open(tmp_path / "catalogue.sqlite")
    answers = []
    keeper = KvKeeper(catalogue, tmp_path / "kv", NoEvents(), answers.append, lambda *_: None)
    return catalogue, keeper, SuspendedRuns(catalogue, keeper, Seat()), answers


async def test_hidden_session_of_no_request_goes_at_the_start(tmp_path):
    catalogue, _keeper, held, _answers = await make(tmp_path)
    for name in (hidden_name(ALIVE), hidden_name(ENDED), "mine"):
        await catalogue.commit_turn(turn_commit(TOKENS, session=name))
    await held.forget_orphans([ALIVE])
    left = {one.name for one in await catalogue.session_summaries()}
    await catalogue.close()
    assert left == {hidden_name(ALIVE), "mine"}


async def test_block_that_another_request_reads_outlives_the_suspended_one(tmp_path):
    catalogue, keeper, held, answers = await make(tmp_path)
    (block,) = block_chain(TAG, TOKENS)
    row = BlockRow(
        id=block,
        tag=TAG,
        parent=root_id(TAG),
        index=0,
        file="blocks/b.kv",
        size_bytes=9,
        written_at=1.0,
    )
    await catalogue.add_blocks([row])
    await catalogue.commit_turn(turn_commit(TOKENS, session=hidden_name(ENDED)))
    keeper.lookup(Lookup(request=ALIVE, blocks=(block,)), model_record(), None)
    await keeper.flush()
    await held.forget("m", ENDED)
    files = await catalogue.files(TAG)
    await catalogue.close()
    assert isinstance(answers[0], Known)
    assert files == {"blocks/b.kv"}
