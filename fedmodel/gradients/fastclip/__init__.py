"""Per-unit clipping in one backward pass ("book-keeping", arXiv 2210.00038).

A unit is a row or a patient. The usual ways to clip each unit's gradient keep it (memory) or run
backward twice (time). Here the layers note, on the way back, what their weights' gradients are
made of; from the notes come the units' norms and then, clipped and summed at once, the gradient.
"""

from fedmodel.gradients.fastclip.engine import FastClip
from fedmodel.gradients.fastclip.groups import Groups

__all__ = ["FastClip", "Groups"]
