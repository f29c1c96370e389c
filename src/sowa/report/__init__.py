"""One HTML file that shows what was judged, how well, and every image, the worst errors first."""

from sowa.report.summary import Plot, Summary, Table
from sowa.report.writer import ReportWriter, open_report

__all__ = ["Plot", "ReportWriter", "Summary", "Table", "open_report"]
