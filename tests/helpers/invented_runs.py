"""Invented results of runs, and a page that is looked at as a reader would."""

from html.parser import HTMLParser

from experiments.report import write_report

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Tags balanced, ids, addresses of all kinds, tables and visible text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses = [], [], []
        self.tags, self.rows, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "data", "action"):
                self.addresses.append(value)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data.strip()


def result_of(seed):
    shift = 0.02 * seed
    matrix = [[0.9, 0.0, 0.0], [0.6 + shift, 0.8, 0.1], [0.5, 0.7 - shift, 0.9]]
    return {
        "format": 1,
        "benchmark": "split-digits",
        "method": "naive",
        "scenario": "class",
        "seed": seed,
        "average_accuracy": (0.5 + 0.7 - shift + 0.9) / 3,
        "average_accuracy_task_known": 0.95,
        "average_forgetting": 0.25 + shift,
        "backward_transfer": -0.25 - shift,
        "accuracy_matrix": matrix,
        "accuracy_matrix_task_known": [[0.9] * 3] * 3,
        "forgetting": [0.4, 0.1 + shift, None],
        "memory_composition": [{"0": 9, "1": 11}, {"0": 5, "1": 5, "2": 10}, {"4": 20}],
        "classes": [[0, 1], [2, 3], [4, 5]],
        "train_seconds": 12.0 + seed,
        "eval_seconds": 1.5,
        "peak_memory_mb": 400.0,
        "iterations": 1200,
    }


def config_of(seed):
    return {
        "format": 1,
        "command": "python -m experiments run split-digits naive",
        "options": {"epochs": 10, "hidden": [100, 100], "stream_size": None},
        "method_options": {},
        "versions": {"python": "3.11.9", "torch": "2.14.1"},
        "git": {"commit": "0123abc", "dirty": False},
        "seed": seed,
        "created": "2025-01-01T00:00:00+00:00",
    }


def joint(**fields):
    row = [[0.97, 0.95, 0.96]]
    nothing = {"average_forgetting": None, "backward_transfer": None}
    return {
        "method": "joint",
        "accuracy_matrix": row,
        "accuracy_matrix_task_known": row,
        "average_accuracy": 0.96,
        "forgetting": [None] * 3,
        "memory_composition": [],
        **nothing,
        **fields,
    }


def page_of(*directories):
    output = directories[0].parent / "pages" / "report.html"
    assert write_report(directories, output) == output
    text = output.read_text(encoding="utf-8")
    return Page(text), text
