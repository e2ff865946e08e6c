"""The report: one self-contained HTML page from a saved verification."""

from polytheory.lab.report.page import page as page
