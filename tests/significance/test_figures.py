import networkx as nx
import numpy as np

from ranklock.significance.figures import places_of


def places(order):
    """Of a network of several parts, with genes that sets hold in some order."""

    class Gene(str):
        __slots__ = ()

        def __hash__(self):
            return order * ord(self)

    pairs = ["AB", "AC", "BD", "CD", "DK", "EF", "GH", "HI", "IJ"]
    graph = nx.Graph([tuple(map(Gene, pair)) for pair in pairs])
    return {str(gene): place for gene, place in places_of(graph).items()}


def test_genes_stand_where_they_stand_whatever_the_order_of_their_hashes():
    """Sets of text come in another order in every process."""
    first = places(1)
    for order in (-1, 7, 1009):
        for gene, place in places(order).items():
            np.testing.assert_array_equal(place, first[gene])
