"""How the dev set is shared out among processes."""

from pathlib import Path

import pytest

from omnirouter.data.dataset import read_feature_dir
from omnirouter.training import validation
from omnirouter.training.experiment import Inputs


@pytest.mark.parametrize("max_batch_s", [1.0, 2.5, 3.0, 100.0])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_each_batch_is_decoded_as_by_one_process_and_all_have_as_many(
    monkeypatch: pytest.MonkeyPatch, inputs: Inputs, tmp_path: Path, ranks: int, max_batch_s: float
) -> None:
    dev = read_feature_dir(inputs.dev)
    wanted = [batch.utt_ids for batch in validation._share(dev, max_batch_s)]
    assert sorted(sum(wanted, [])) == sorted(utterance.utt_id for utterance in dev)
    monkeypatch.setattr(validation, "ranks", lambda: ranks)
    shares = []
    for rank in range(ranks):
        monkeypatch.setattr(validation, "rank", lambda rank=rank: rank)
        shares.append([batch.utt_ids for batch in validation._share(dev, max_batch_s)])
    decoded = sum(shares, [])
    assert all(batch in decoded for batch in wanted) and all(batch in wanted for batch in decoded)
    assert {len(share) for share in shares} == {-(-len(wanted) // ranks)}
    if max_batch_s == 1.0:
        assert len(wanted) > 5
