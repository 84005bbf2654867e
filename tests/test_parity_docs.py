"""The tables of docs/parity.md are the reports under benchmarks/results, number by number."""

import json
from pathlib import Path

import pytest

from xmask3d_rt.config import Precision
from xmask3d_rt.export.parity.limits import MIN_AGREEMENT, STAGES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SUBJECTS = ("module", "engines")


def read_rows(name):
    report = json.loads((RESULTS / f"parity_{name}.json").read_text())
    assert report["ok"] is True
    assert report["precision"] == Precision.FP32
    assert report["preset"] == "b15n4"
    return {(row["stage"], row["metric"]): row for row in report["rows"]}


def format_value(row):
    if row is None:
        return "inside"
    if row["relation"] == ">=":
        return f"{row['value']:.3%}".replace("%", " %")
    return f"{row['value']:.0f}" if row["metric"] != "relative L2" else f"{row['value']:.1e}"


def format_limit(row):
    if row["relation"] == ">=":
        return f"≥ {row['limit']:.2%}".replace("%", " %")
    return f"≤ {row['limit']:g}"


def make_table(names, rows_of):
    """Markdown rows: stage, measure, limit, then one value per report."""
    keys = list(rows_of[0])
    lines = ["| stage | measure | limit | " + " | ".join(names) + " |"]
    lines.append("|---" * (3 + len(names)) + "|")
    for key in keys:
        cells = [*key, format_limit(rows_of[0][key])]
        cells += [format_value(rows.get(key)) for rows in rows_of]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


@pytest.mark.parametrize("cases", [("case_A", "case_C"), ("scene_KITCHEN",)])
def test_table_is_the_report(cases):
    reports = [(subject, case) for case in cases for subject in SUBJECTS]
    names = [f"{case.split('_')[1]} {subject}" for subject, case in reports]
    table = make_table(names, [read_rows(f"{s}_{case}") for s, case in reports])
    page = (ROOT / "docs" / "parity.md").read_text()
    assert table in page, f"docs/parity.md should read\n{table}"


def test_limits_of_the_lower_precisions_are_listed():
    page = (ROOT / "docs" / "parity.md").read_text()
    for precision, limits in MIN_AGREEMENT.items():
        cells = " | ".join(f"{limit:.2%}".replace("%", " %") for limit in limits.values())
        assert f"| {precision} | {cells} |" in page


def test_every_stage_is_in_a_report():
    assert set(STAGES) <= {stage for stage, _ in read_rows("module_case_A")}


@pytest.mark.parametrize(
    ("case", "prefix"), [("case_A", "label_"), ("case_C", "label_"), ("scene_KITCHEN", "scene ")]
)
def test_readme_repeats_the_labels(case, prefix):
    page = (ROOT / "README.md").read_text()
    rows = [read_rows(f"{subject}_{case}") for subject in SUBJECTS]
    values = [
        " | ".join(format_value(report[prefix + head, "labels equal"]) for report in rows)
        for head in ("fused", "2d", "3d")
    ]
    heads = ("fused, 2D, 3D",) if len(set(values)) == 1 else ("fused", "2D", "3D")
    for head, value in zip(heads, values, strict=False):
        assert f"| {head} | {value} |" in page
