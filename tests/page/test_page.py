import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from ranklock.page import (
    BigTable,
    Column,
    Figure,
    Formula,
    Json,
    Page,
    Paragraph,
    Section,
    Table,
    Verdict,
    plain,
    render,
)
from ranklock.page.render import finite

SCRIPT = "<script>alert(1)</script>"
LINK = '<b>x</b><a href="javascript:alert(1)">y</a>'
WEBGL = {"type": "scattergl", "y": [1, 2]}  # needs eval, which the page forbids
ROWS = 5000
LONG = "Genes after the one knocked out move 210 times as much as genes before it. "


def rows():
    draw = np.random.default_rng(0)
    table = [
        [f"GENE{i}", f"note {i % 7}", float(draw.lognormal()), int(draw.integers(-50, 2000))]
        for i in range(ROWS)
    ]
    table[0][0], table[1][0], table[2][0], table[3][0] = SCRIPT, LINK, "=SUM(A1)", 'a "b", c'
    table[4][2], table[5][2] = None, float("nan")
    return table


def figures():
    draw = np.random.default_rng(0)
    names = [plain(SCRIPT), plain(LINK), "GENE1"]
    scatter = {
        "type": "scatter", "mode": "markers", "name": plain(LINK), "x": list(range(500)),
        "y": [*draw.lognormal(size=499).tolist(), float("nan")], "text": [plain(SCRIPT)] * 500,
        "hovertemplate": "%{text} %{y:.2f}",
    }  # fmt: skip
    heatmap = {
        "type": "heatmap", "z": draw.normal(size=(3, 3)).tolist(), "x": ["a", "b", "c"],
        "y": names, "colorbar": {"title": {"text": "z"}},
    }  # fmt: skip
    bar = {
        "type": "bar", "x": names, "y": [3, 2, 1],
        "error_y": {"type": "data", "array": [0.1, float("inf"), 0.3]},
    }  # fmt: skip
    box = {"type": "box", "y": draw.normal(size=50).tolist(), "name": "hold"}
    return {
        "scatter": {"data": [scatter], "layout": {"yaxis": {"type": "log"}, "showlegend": True}},
        "heatmap": {"data": [heatmap], "layout": {}},
        "bar": {"data": [bar], "layout": {"xaxis": {"title": {"text": "arm"}}}},
        "box": {"data": [box], "layout": {}},
    }


def example():
    drawn = [Figure(name, f"A {name}", LONG, spec) for name, spec in figures().items()]
    small = Table(
        "By arm", ["arm", "share"], [[SCRIPT, 0.987654], [LINK, None], ["hold", np.float64("nan")]]
    )
    columns = [
        Column("gene", "its symbol"), Column("note"), Column("distance", LONG, 3), Column("rank"),
    ]  # fmt: skip
    return Page(
        title=f"Audit of {SCRIPT}",
        subtitle="700 cells",
        verdicts=[
            Verdict("step", "Is there a step?", f"Yes, in {SCRIPT}.", "0.99", "bad"),
            Verdict("rest", "Anything else?", "Not known.", "", "unknown"),
        ],
        lead=[LONG * 3],
        sections=[
            Section("step", "Is there a step?", "Yes.", [Paragraph(LONG), *drawn[:2], small]),
            Section("rest", "Anything else?", "No.", [
                Formula("Δ(g) = ‖e(g) − e′(g)‖² " * 6), *drawn[2:],
                BigTable("genes", "All genes", columns, rows()),
                Figure("broken", "Broken", "Nothing.", {"data": [None], "layout": {}}),
                Figure("webgl", "WebGL", "Nothing.", {"data": [WEBGL], "layout": {}}),
                Json("The manifest", {"name": SCRIPT, "limit": float("inf"), "long": "x" * 400}),
            ], answered=False),
        ],
        footer=["ranklock"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(example()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def opened(browser, file):
    """The page, everything on it drawn, and what went wrong on the way."""
    tab = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
    tab.wrong = []
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.wrong.append("dialog"), dialog.dismiss()))
    tab.on("console", lambda said: said.type == "error" and tab.wrong.append(said.text))
    tab.on(
        "request",
        lambda asked: (
            re.match("(file|data|blob):", asked.url) or tab.wrong.append(f"asked for {asked.url}")
        ),
    )
    tab.goto(file.as_uri())
    draw_all(tab)
    yield tab
    assert tab.wrong == []
    tab.close()


def draw_all(tab):
    for plot in tab.query_selector_all(".plot"):
        plot.scroll_into_view_if_needed()
    waiting = tab.locator(".plot:not(.failed):not(:has(.main-svg))")
    waiting.first.wait_for(state="detached")
    tab.wait_for_timeout(200)


def cells(tab, column):
    return tab.locator(f"#genes tbody td:nth-child({column})").all_text_contents()


def sort(tab, name):
    tab.locator("#genes th button", has_text=name).click()
    return tab.locator("#genes th").evaluate_all("all => all.map(th => th.ariaSort)")


def test_every_figure_is_drawn_and_a_broken_one_says_so(opened):
    marks = {"scatter": ".point", "heatmap": ".hm image", "bar": ".point path", "box": "path.box"}
    for name, mark in marks.items():
        assert opened.locator(f"#{name} svg.main-svg {mark}").count() > 0
    assert opened.locator("#heatmap .colorbar").count() == 1
    assert opened.locator("#bar .errorbar").count() > 0
    for name in ("broken", "webgl"):
        said = opened.locator(f"#{name}").inner_text()
        assert said == "This figure could not be drawn in this browser."
    assert opened.wrong == []


def test_users_text_is_shown_as_it_is(opened):
    assert opened.locator("h1").inner_text() == f"Audit of {SCRIPT}"
    assert SCRIPT in opened.locator(".card").first.inner_text()
    assert opened.locator(".small tbody td").all_text_contents() == [
        SCRIPT, "0.9877", LINK, "–", "hold", "–",
    ]  # fmt: skip
    for figure in ("heatmap", "bar"):
        labels = opened.locator(f"#{figure} .ytick text, #{figure} .xtick text").all_text_contents()
        assert {SCRIPT, LINK} <= set(labels)
    assert opened.locator("#scatter .legendtext").text_content() == LINK
    opened.evaluate("Plotly.Fx.hover('scatter', [{curveNumber: 0, pointNumber: 3}])")
    hover = opened.locator("#scatter .hovertext").text_content()
    assert SCRIPT in hover
    assert LINK in hover
    assert {SCRIPT, LINK} <= set(cells(opened, 1))
    assert opened.locator("main a[href^='javascript'], .plot b, td b").count() == 0


def test_the_table_sorts_filters_and_pages(opened):
    distances = sorted(row[2] for row in rows() if row[2] is not None and row[2] == row[2])
    assert sort(opened, "distance") == ["none", "none", "ascending", "none"]
    assert [float(text) for text in cells(opened, 3)] == pytest.approx(distances[:25], rel=5e-3)
    assert sort(opened, "distance") == ["none", "none", "descending", "none"]
    assert [float(text) for text in cells(opened, 3)] == pytest.approx(distances[:-26:-1], rel=5e-3)
    sort(opened, "rank")
    assert cells(opened, 4) == [str(rank) for rank in sorted(row[3] for row in rows())[:25]]

    opened.select_option("#genes select", "0")
    sort(opened, "distance")
    assert cells(opened, 3)[-2:] == ["–", "–"]
    sort(opened, "distance")
    assert cells(opened, 3)[-2:] == ["–", "–"]

    status = opened.locator("#genes [role=status]")
    opened.select_option("#genes select", "100")
    opened.fill("#genes input", "NOTE 3")
    kept = sum(row[1] == "note 3" for row in rows())
    assert status.inner_text() == f"{kept} of 5,000 rows, showing 1 to 100"
    opened.click("#genes [data-do=on]")
    assert status.inner_text() == f"{kept} of 5,000 rows, showing 101 to 200"
    opened.fill("#genes input", "no such gene")
    assert status.inner_text() == "0 of 5,000 rows"
    assert opened.locator("#genes [data-do=on]").is_disabled()
    opened.fill("#genes input", "")
    opened.select_option("#genes select", "25")


def test_the_table_sorts_by_keyboard(opened):
    opened.locator("#genes th button").first.focus()
    opened.keyboard.press("Enter")
    assert opened.locator("#genes th").first.get_attribute("aria-sort") == "ascending"


def test_the_csv_holds_the_filtered_rows_and_no_formula(opened, tmp_path):
    def saved(words):
        opened.fill("#genes input", words)
        with opened.expect_download() as download:
            opened.click("#genes [data-do=csv]")
        assert download.value.suggested_filename == "genes.csv"
        download.value.save_as(tmp_path / "genes.csv")
        opened.fill("#genes input", "")
        return (tmp_path / "genes.csv").read_bytes().decode().split("\r\n")

    sort(opened, "rank")
    by_gene = {row[0]: row for row in rows()}
    _, note, distance, rank = by_gene["=SUM(A1)"]
    assert saved("=sum") == ["gene,note,distance,rank", f"'=SUM(A1),{note},{distance},{rank}", ""]
    assert saved('"b"')[1].startswith('"a ""b"", c",')
    whole = saved("")
    assert len(whole) == ROWS + 2
    assert any(line.endswith(",-50") for line in whole)


def test_a_figure_is_saved_as_png(opened, tmp_path):
    with opened.expect_download() as download:
        opened.locator("#scatter .modebar-btn").first.dispatch_event("click")
    assert download.value.suggested_filename == "scatter.png"
    download.value.save_as(tmp_path / "scatter.png")
    assert (tmp_path / "scatter.png").read_bytes().startswith(b"\x89PNG")


def theme(tab):
    tab.wait_for_timeout(200)
    return tab.evaluate(
        "[getComputedStyle(document.body).backgroundColor, "
        "...['scatter', 'bar'].map(id => getComputedStyle("
        "document.querySelector(`#${id} .xtick text`)).fill)]"
    )


def luminance(colour):
    parts = np.array([int(part) for part in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


TEXTS = """selector => [...document.querySelectorAll(selector)].map(element => {
  let ground = element;
  while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") {
    ground = ground.parentElement;
  }
  return [element.className || element.tagName, getComputedStyle(element).color,
    getComputedStyle(ground).backgroundColor];
})"""


def contrasts(tab):
    found = tab.evaluate(TEXTS, "p, h1, h2, h3, .tone, .sign, .tag, .toc a, th, td, button, pre")
    for name, text, ground in found:
        darker, lighter = sorted((luminance(text), luminance(ground)))
        yield name, (lighter + 0.05) / (darker + 0.05)


def test_both_themes_can_be_read_and_figures_follow(opened):
    button = opened.locator("#theme")
    light = theme(opened)
    assert button.get_attribute("aria-pressed") == "false"
    assert {name for name, ratio in contrasts(opened) if ratio < 4.5} == set()
    button.click()
    dark = theme(opened)
    assert button.get_attribute("aria-pressed") == "true"
    assert {name for name, ratio in contrasts(opened) if ratio < 4.5} == set()
    assert luminance(light[0]) > 0.8 > 0.1 > luminance(dark[0])
    assert all(luminance(text) < 0.1 for text in light[1:])
    assert all(luminance(text) > 0.6 for text in dark[1:])
    button.click()
    assert theme(opened) == light


def test_on_paper_there_are_no_controls_and_all_figures(opened, browser, file):
    opened.emulate_media(media="print")
    opened.wait_for_timeout(300)
    for control in ("#theme", ".toc", ".controls", ".pager", ".skip"):
        assert not opened.locator(control).first.is_visible()
    assert "25 of the table's 5,000 rows" in opened.locator(".on-paper").inner_text()
    assert opened.locator("#bar").evaluate("plot => plot._fullLayout.width") == 672
    opened.emulate_media(media="screen")
    opened.wait_for_timeout(300)
    width = opened.locator("#bar").evaluate("plot => plot._fullLayout.width - plot.clientWidth")
    assert abs(width) < 1

    tab = browser.new_page(color_scheme="dark")
    tab.goto(file.as_uri())
    assert tab.pdf().startswith(b"%PDF")
    assert tab.locator(".plot .main-svg").count() > 0
    assert tab.locator(".plot.js-plotly-plot").count() >= len(figures())
    tab.close()


def test_a_phone_scrolls_only_downwards(browser, file):
    tab = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    tab.goto(file.as_uri())
    draw_all(tab)
    tab.locator("summary").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    widths = tab.locator(".plot .main-svg").evaluate_all("all => all.map(s => s.clientWidth)")
    assert max(widths) <= 390
    tab.close()


def test_without_javascript_the_words_and_small_tables_stand(browser, file):
    tab = browser.new_page(java_script_enabled=False)
    tab.goto(file.as_uri())
    assert tab.locator(".card").first.is_visible()
    assert "Yes, in" in tab.locator(".card").first.inner_text()
    assert tab.locator("noscript .notice").first.is_visible()
    assert tab.locator(".small td").first.is_visible()
    assert not tab.locator("#theme").is_visible()
    tab.close()


def test_headings_links_and_names_of_figures(opened):
    levels = [int(tag[1]) for tag in opened.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map(h => h.tagName)")]  # fmt: skip
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    targets = opened.locator("a[href^='#']").evaluate_all("all => all.map(a => a.hash)")
    assert all(opened.locator(target).count() == 1 for target in targets)
    figure = opened.locator("#scatter")
    assert figure.get_attribute("role") == "img"
    assert figure.get_attribute("aria-label") == f"A scatter. {LONG}"


def test_the_file_is_small_and_its_data_cannot_leave_their_script(file):
    text = file.read_text(encoding="utf-8")
    assert file.stat().st_size < 6e6
    assert SCRIPT not in text
    data = re.search(r'id="scatter-data">(.*?)</script>', text).group(1)
    assert not set(data) & set("<>&")
    assert json.loads(data)["data"][0]["y"][-1] is None
    policy = re.search(r'Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.startswith("default-src &#39;none&#39;; script-src &#39;sha256-")
    assert text.count("* plotly.js v") == 1


def test_mistakes_of_callers_are_named():
    page = example()
    with pytest.raises(ValueError, match="No section has the id 'nowhere'"):
        render(replace(page, verdicts=[replace(page.verdicts[0], section="nowhere")]))
    with pytest.raises(ValueError, match="Two parts of the page have the id 'step'"):
        render(replace(page, sections=[page.sections[0]] * 2))
    short = Section("rest", "", "", [Table("By arm", ["arm", "share"], [["hold"]])])
    with pytest.raises(ValueError, match="A row of 'By arm' does not have 2 cells"):
        render(replace(page, sections=[page.sections[0], short]))


def test_numbers_become_plain():
    plain_ones = finite({"a": [np.float64(1.5), np.nan, np.inf], 5: (np.int64(2), "x", None)})
    assert plain_ones == {"a": [1.5, None, None], "5": [2, "x", None]}
    assert json.dumps(plain_ones) == '{"a": [1.5, null, null], "5": [2, "x", null]}'
