import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

import ranklock
from ranklock.audits.masked_genes import MASKED, mask_cells, masked_losses
from ranklock.models.masked_head import load_masked_head
from tests import helpers


@pytest.mark.parametrize("special_frame", [False, True])
def test_losses_are_those_of_the_plain_model(tmp_path, special_frame):
    folder = helpers.checkpoint(tmp_path, spread=0.3)
    model = ranklock.load_model(folder, device="cpu")
    vocabulary = helpers.vocabulary(55, special_frame=special_frame)
    cells = helpers.cells_of([50, 7, 1], vocabulary, special_frame=special_frame)
    inputs = mask_cells(cells, model, range(3), 5, 0)
    assert [each.cell for each in inputs] == [0, 1, 0, 1, 0]  # one gene cannot be told from none
    losses, right = masked_losses(model, load_masked_head(folder), inputs)
    assert len(losses) == len(right) == sum(len(each.rows) for each in inputs)
    whole = BertForMaskedLM.from_pretrained(folder, dtype=torch.float64).eval()
    done = 0
    for each in inputs:
        genes = cells.ranked[each.cell]
        assert len(each.rows) == max(round(MASKED * len(genes)), 1)
        assert (each.shown.tokens[each.rows] == vocabulary.special["<mask>"]).all()
        assert set(each.tokens.tolist()) <= set(genes.tolist())
        with torch.no_grad():
            logits = whole(torch.tensor(each.shown.tokens[None].astype(np.int64))).logits[0]
        for row, token in zip(each.rows, each.tokens, strict=True):
            expected = -torch.log_softmax(logits[row], -1)[token]
            assert losses[done] == pytest.approx(float(expected), rel=1e-4)
            assert right[done] == float(logits[row].argmax() == token)
            done += 1


def test_what_is_masked_depends_on_the_seed_alone(tmp_path):
    model = ranklock.load_model(helpers.checkpoint(tmp_path), device="cpu")
    cells = helpers.cells_of([50], helpers.vocabulary(55))
    rows = [mask_cells(cells, model, [0], 1, seed)[0].rows.tolist() for seed in (3, 3, 4)]
    assert rows[0] == rows[1] != rows[2]
