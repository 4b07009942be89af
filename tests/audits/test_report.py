"""The audit's own report in a browser; what any page must do is in test_page.py."""

import dataclasses

import pytest

import ranklock
from ranklock.audits.answers import QUESTIONS
from ranklock.audits.figures import figures_of
from ranklock.audits.measure import measure
from tests import helpers

NASTY = "<script>alert(1)</script>"
NAUGHTY = '"><img src=x onerror=alert(2)>'


@pytest.fixture(scope="module")
def nasty_audit(tiny_checkpoint, tmp_path_factory):
    """An audit of cells whose names and genes want to be scripts."""
    vocabulary = helpers.vocabulary(60)
    symbols = {**vocabulary.symbols}
    names = list(symbols)
    for i, gene in enumerate(names[:40]):
        symbols[f"{NAUGHTY if i % 2 else NASTY}{i}"] = symbols.pop(gene)
    vocabulary = dataclasses.replace(vocabulary, symbols=symbols)
    cells = helpers.cells_of([50, 50, 45, 40], vocabulary)
    cells.obs.index = [f"{NASTY}{i}" for i in range(4)]
    return ranklock.audit(
        cells,
        ranklock.load_model(str(tiny_checkpoint), device="cpu"),
        tmp_path_factory.mktemp("nasty") / "audit",
        budget=800,
        progress=False,
    )


@pytest.fixture(scope="module")
def page(browser, tiny_audit):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.problems, page.requests = [], []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(tiny_audit.report.as_uri())
    return page


def scroll_through(page):
    height = page.evaluate("document.documentElement.scrollHeight")
    for y in range(0, height + 900, 800):
        page.evaluate(f"window.scrollTo(0, {y})")
        page.wait_for_timeout(40)


def test_every_figure_is_drawn_without_errors_or_requests(page, tiny_audit):
    scroll_through(page)
    figures = page.locator("figure")
    assert figures.count() >= 9
    page.wait_for_function(
        "[...document.querySelectorAll('figure')].every(f => f.querySelector('svg.main-svg'))"
    )
    assert page.problems == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in page.requests)


def test_the_verdict_comes_first_and_holds_five_answers(page, tiny_audit):
    text = page.locator("main").inner_text()
    assert all(asks in text for asks in QUESTIONS.values())
    first = text.index(QUESTIONS["step"])
    assert first < text.index("1. The step")
    for answer in tiny_audit.verdict["answer"]:
        assert answer in text


def test_the_table_of_knockouts_sorts_and_filters(page, tiny_audit):
    table = tiny_audit.table("genes")
    big = page.locator("#knockout-table")
    gene = str(table["gene"].iloc[3])
    big.locator("input").first.fill(gene)
    page.wait_for_timeout(100)
    cells = big.locator("tbody tr td:first-child, tbody tr th").all_inner_texts()
    assert cells
    assert all(gene in cell for cell in cells)
    big.locator("input").first.fill("")
    big.get_by_role("button", name="mean rank").click()
    page.wait_for_timeout(100)
    header = big.locator("th[aria-sort=ascending]")
    assert "mean rank" in header.inner_text()


@pytest.mark.parametrize(("width", "media"), [(390, "screen"), (718, "print")])
def test_it_fits_a_phone_and_a_sheet_of_paper(browser, tiny_audit, width, media):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.emulate_media(media=media)
    page.goto(tiny_audit.report.as_uri())
    scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_names_that_want_to_be_scripts_are_text(browser, nasty_audit):
    page = browser.new_page()
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    page.goto(nasty_audit.report.as_uri())
    scroll_through(page)
    assert dialogs == []
    assert page.locator("img[src=x]").count() == 0
    assert NASTY in page.locator("main").inner_text()
    assert "onerror=alert(2)" in page.locator("#knockout-table").inner_text()
    titles = page.locator("figure h3, figcaption").all_inner_texts()
    assert any(NASTY in title for title in titles)  # the example's cell
    page.locator("#example").scroll_into_view_if_needed()
    hovers = page.evaluate("document.querySelector('#example').data.map(t => t.text).flat()")
    assert any("&lt;script&gt;" in text for text in hovers)


def test_figures_are_valid_plotly(tiny_audit):
    import plotly.graph_objects as go

    from ranklock.audits.answers import answer

    measured = measure(tiny_audit.run)
    figures = figures_of(measured, answer(measured))
    assert {"example", "heat", "regions", "change-points", "against-rank", "places"} <= set(figures)
    for figure in figures.values():
        drawn = go.Figure(figure.spec)  # which checks every name and value
        assert len(drawn.data)


def test_fifty_cells_stay_under_six_megabytes(tmp_path):
    """The size is that of the numbers: 50 cells, 40 knock-outs each, as an audit by default."""
    folder = helpers.checkpoint(tmp_path / "model", tokens=420, positions=256)
    cells = helpers.cells_of([200] * 50, helpers.vocabulary(400))
    model = ranklock.load_model(str(folder), device="cpu")
    found = ranklock.audit(cells, model, tmp_path / "audit", budget=8200, progress=False)
    assert found.content["sample"]["knockouts"] > 1900
    assert found.report.stat().st_size < 6e6
