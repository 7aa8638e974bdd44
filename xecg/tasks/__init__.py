"""One LightningModule per task."""

from xecg.tasks.af_classification import AFClassifier
from xecg.tasks.base import Task
from xecg.tasks.p_wave_detection import PWaveDetection
from xecg.tasks.rr_variability import RRVariability

__all__ = ["AFClassifier", "PWaveDetection", "RRVariability", "Task"]
