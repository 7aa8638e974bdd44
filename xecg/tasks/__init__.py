"""One LightningModule per task."""

from xecg.tasks.af import AFClassifier
from xecg.tasks.base import CosineToEnd, Task
from xecg.tasks.p_wave import PWaveDetection
from xecg.tasks.rr import RRVariability

__all__ = ["AFClassifier", "CosineToEnd", "PWaveDetection", "RRVariability", "Task"]
