import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranklock.errors import OptionError
from ranklock.kinds import (
    KNOCK_OUT,
    find_kind,
    find_kinds,
    middle_of,
    quarter_of,
    rank_by_quarters,
)

# Geneformer's documentation of perturb_rank_shift, for the four quartiles of 100 genes: middles are
# ranks 12, 37, 62 and 87, the front 0, the bottom 99.
DOCUMENTED = {"activate:1": (0, 12, 37, 62), "inhibit:2": (62, 87, 99, 99)}


def destinations(name, genes):
    """Rank that the gene at each rank goes to."""
    return rank_by_quarters(np.arange(genes), find_kind(name).quarters, genes).tolist()


@pytest.mark.parametrize(("name", "goals"), DOCUMENTED.items())
def test_quarters_are_those_of_geneformers_documentation(name, goals):
    assert destinations(name, 100) == [goals[rank // 25] for rank in range(100)]


@given(st.integers(4, 5000), st.data())
def test_quarters_are_even_and_their_middles_lie_within(genes, data):
    quarters = quarter_of(np.arange(genes), genes)
    sizes = np.bincount(quarters, minlength=4)
    assert sizes.max() - sizes.min() <= 1
    quarter = data.draw(st.integers(0, 3))
    middle = int(middle_of(quarter, genes))
    ranks = np.flatnonzero(quarters == quarter)
    assert quarter_of(middle, genes) == quarter
    assert (ranks[-1] - middle) - (middle - ranks[0]) in (0, 1)


@given(st.integers(4, 3000), st.integers(1, 3))
def test_activation_goes_up_and_inhibition_down(genes, quarters):
    ranks = np.arange(genes)
    up = np.array(destinations(f"activate:{quarters}", genes))
    down = np.array(destinations(f"inhibit:{quarters}", genes))
    assert (up >= 0).all()
    assert (down < genes).all()
    assert (up < ranks)[1:].all()
    assert (down > ranks)[:-1].all()
    assert (up[0], down[-1]) == (0, genes - 1)
    quarter = quarter_of(ranks, genes)
    np.testing.assert_array_equal(quarter_of(up, genes), np.maximum(quarter - quarters, 0))
    np.testing.assert_array_equal(quarter_of(down, genes), np.minimum(quarter + quarters, 3))


@pytest.mark.parametrize("name", ["knock-out", "overexpress", "activate:2", "inhibit:3",
                                  "to-rank:100", "factor:0.5"])  # fmt: skip
def test_a_kind_is_found_by_the_name_it_has(name):
    assert find_kind(name).name == name
    assert find_kind(f" {name} ") == find_kind(name)


def test_what_can_be_done_to_several_genes_at_once_or_to_one_that_is_not_there():
    """Quarters and counts are of a gene that is there; fronts and ranks are for any."""
    kinds = find_kinds("knock-out,overexpress,to-rank:3,activate,inhibit,factor:2")
    assert [kind.takes_sets for kind in kinds] == [True] * 3 + [False] * 3
    assert [kind.moves for kind in kinds] == [False] + [True] * 5


def test_kinds_are_named_once_each_in_the_order_given():
    expected = (find_kind("overexpress"), KNOCK_OUT)
    assert find_kinds("overexpress, knock-out,overexpress") == expected
    assert find_kinds(["overexpress", "knock-out"]) == expected
    assert find_kinds("activate,activate:1") == (find_kind("activate:1"),)
    assert find_kinds("factor:2,factor:2.0") == (find_kind("factor:2"),)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("delete", "no perturbation 'delete'; there are knock-out, overexpress"),
        ("to-rank:-1", "ranks count from 0"),
        ("to-rank", "no perturbation 'to-rank'"),
        ("to-rank:1.5", "no perturbation 'to-rank:1.5'"),
        ("activate:4", "1, 2 or 3 quarters, not 4"),
        ("inhibit:0", "1, 2 or 3 quarters, not 0"),
        ("activate:most", "no perturbation 'activate:most'"),
        ("overexpress:1", "no perturbation 'overexpress:1'"),
        ("knock-out:2", "no perturbation 'knock-out:2'"),
        ("factor:0", "larger than 0"),
        ("factor:-1", "larger than 0"),
        ("factor:nan", "larger than 0"),
        ("factor:inf", "no factor for counts"),
        ("", "no perturbation ''"),
    ],
)
def test_what_is_no_kind_is_refused(name, says):
    with pytest.raises(OptionError, match=says):
        find_kind(name)
    with pytest.raises(OptionError, match=says):
        find_kinds(f"knock-out,{name}")


def test_that_nothing_is_to_be_done_is_refused():
    with pytest.raises(OptionError, match="Nothing is to be done"):
        find_kinds([])
