"""The report of a study: tables, figures, one page."""
