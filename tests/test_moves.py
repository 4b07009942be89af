import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.errors import OptionError
from ranklock.moves import find_move, middle_of, quarter_of

# Geneformer's documentation of perturb_rank_shift, for the four quartiles of 100 genes: middles are
# ranks 12, 37, 62 and 87, the front 0, the bottom 99.
DOCUMENTED = {
    ("activate", 1): (0, 12, 37, 62),
    ("inhibit", 2): (62, 87, 99, 99),
}


@pytest.mark.parametrize(("asked", "ends"), DOCUMENTED.items())
def test_quartiles_are_those_of_geneformers_documentation(asked, ends):
    move = find_move(*asked)
    for rank in range(100):
        assert move.destinations([rank], 100) == (ends[rank // 25],)


@given(st.integers(4, 5000), st.data())
def test_quarters_are_even_and_their_middles_lie_within(genes, data):
    sizes = [0] * 4
    for rank in range(genes):
        sizes[quarter_of(rank, genes)] += 1
    assert max(sizes) - min(sizes) <= 1
    quarter = data.draw(st.integers(0, 3))
    middle = middle_of(quarter, genes)
    mine = [rank for rank in range(genes) if quarter_of(rank, genes) == quarter]
    below, above = middle - mine[0], mine[-1] - middle
    assert quarter_of(middle, genes) == quarter
    assert above - below in (0, 1)


@given(st.integers(4, 3000), st.integers(1, 3), st.data())
def test_activation_goes_up_and_inhibition_down(genes, quartiles, data):
    rank = data.draw(st.integers(0, genes - 1))
    (up,) = find_move("activate", quartiles).destinations([rank], genes)
    (down,) = find_move("inhibit", quartiles).destinations([rank], genes)
    assert 0 <= up <= rank <= down < genes
    assert up < rank or rank == 0
    assert down > rank or rank == genes - 1
    assert quarter_of(up, genes) == max(quarter_of(rank, genes) - quartiles, 0)
    assert quarter_of(down, genes) == min(quarter_of(rank, genes) + quartiles, 3)


def test_genes_go_to_the_front_or_to_a_rank_in_the_order_named():
    assert find_move("overexpress").destinations([9, 2, 5], 20) == (0, 1, 2)
    assert find_move(7).destinations([9, 2], 20) == (7, 8)


@pytest.mark.parametrize(
    ("perturbation", "quartiles", "says"),
    [
        ("delete", None, "there are overexpress, activate, inhibit"),
        (-1, None, "ranks count from 0"),
        (True, None, "no perturbation True"),
        ("activate", 4, "1, 2 or 3 quartiles, not 4"),
        ("inhibit", 0, "1, 2 or 3 quartiles, not 0"),
        ("overexpress", 1, "leave it out"),
        (3, 2, "leave it out"),
    ],
)
def test_what_is_no_move_is_refused(perturbation, quartiles, says):
    with pytest.raises(OptionError, match=says):
        find_move(perturbation, quartiles)
