"""How a report's numbers are made, in words for its reader."""

from xecg.study.report.references import ORIGINAL_NOTE, PUBLISHED_NOTE
from xecg.study.report.settings import ReportSettings


def methods(settings: ReportSettings) -> list[str]:
    """Paragraphs, in plain text."""
    return [
        "Cells. A network for each frozen depth and seed; scratch is the same training without "
        "pre-training and with nothing frozen. It stands apart and is no part of any trend.",
        "Means and intervals. A number is computed for each network and averaged over seeds. "
        f"Intervals are 95 % percentile intervals of {settings.resamples:,} cluster-bootstrap "
        "resamples of whole persons or records (Davison and Hinkley 1997, section 3.8), the "
        "same in every network, so that networks are compared on the same ECGs. They say how "
        "sure the number is for these networks; the dots of the seeds say how much another "
        "training differs.",
        "Accuracy, F1 of AF, AUROC. AF is called where it is the more probable class; AUROC is "
        "the share of pairs of an AF and a non-AF window that are ranked rightly, ties half "
        "(Hanley and McNeil 1982).",
        "Enrichment. Share of the relevance (deep Taylor decomposition of the class that the "
        "branch predicts) within a wave / share of the time within it, in windows relative to "
        "the R peaks: P -220 to -60 ms, QRS -50 to 50 ms, ST-T 100 to 350 ms. Mean over windows "
        "that were explained, that the branch predicts rightly, and that have four beats or more; "
        "the number n of them differs between networks. In AF there is no P wave; P is then the "
        "place where it would be.",
        "Domain specificity. log2(mean enrichment of the own wave / of the other's): of the "
        "morphology branch P over QRS, of the rhythm branch QRS over P. 0 is no preference, 1 "
        "twice the other's.",
        "Trend. Spearman's rho between depth and mean over seeds. In its interval persons or "
        "records and, independently, seeds are resampled; with few seeds that says little of "
        "seeds that were not trained. Test: within each seed, depths are permuted (under the "
        "null hypothesis they are exchangeable); statistic: absolute rho of the means over "
        "seeds, so p is two-sided. All permutations are used where there are at most 50,000, else "
        f"{settings.permutations:,} are drawn and p = (1 + b) / (1 + n) (Phipson and Smyth 2010). "
        "Each p stands alone; it is not corrected for the number of tests.",
        "Accuracy against specificity. Spearman's rho over depths between the two means; both "
        "may follow the depth, so a correlation is no cause.",
        ORIGINAL_NOTE,
        PUBLISHED_NOTE,
    ]
